"""`bench-throughput step`."""

import click

from pclkd.benchmarks.options import measuring, networks, sized
from pclkd.benchmarks.session import Session

__all__ = ["step"]


@click.command()
@networks
@measuring
def step(
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
    result = StepBenchmark(trained, shape).run(session)
    session.finish(result)
