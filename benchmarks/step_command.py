"""`bench-throughput step`."""

import click

from pclkd.benchmarks.options import measuring, networks, sized
from pclkd.benchmarks.session import Session

__all__ = ["step"]


@click.command()
@click.option("--options", is_flag=True, help="Time each choice that the step makes: as trained, and otherwise.")
@networks
@measuring
def step(
    *,
    options: bool,
    backbone: str,
    teacher: str | None,
    width: float | None,
    batch_size: int | None,
    frames: int | None,
    crop: int | None,
    session: Session,
) -> None:
    """Samples a second of the training step alone, PCL and PCL+KD, on clips that stay on the device.

    Without --teacher the teacher has the student's architecture.
    """
    from pclkd.benchmarks.step import StepBenchmark

    trained, shape = sized(backbone, teacher or backbone, width, batch_size, frames, crop)
    result = StepBenchmark(trained, shape, options).run(session)
    session.finish(result)
