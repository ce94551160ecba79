"""`bench-throughput step`."""

from pathlib import Path

import click

from pclkd.benchmarks.console import finish, ready, teller
from pclkd.benchmarks.options import measuring, networks, sized

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
    rounds: int,
    min_seconds: float,
    json_file: Path | None,
) -> None:
    """Samples a second of the training step alone, PCL and PCL+KD, on clips that stay on the device.

    Without --teacher the teacher has the student's architecture.
    """
    from pclkd.benchmarks.step import StepBenchmark

    ready(json_file)
    trained, shape = sized(backbone, teacher or backbone, width, batch_size, frames, crop)
    result = StepBenchmark(trained, shape).run(rounds=rounds, min_seconds=min_seconds, on_round=teller(rounds))
    finish(result, json_file)
