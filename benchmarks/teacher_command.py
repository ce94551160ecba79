"""`bench-throughput teacher`."""

import click

from pclkd.benchmarks.options import measuring, networks, sized
from pclkd.benchmarks.session import Session

__all__ = ["teacher"]


@click.command("teacher")
@networks
@measuring
def teacher(
    backbone: str,
    teacher: str | None,
    width: float | None,
    batch_size: int | None,
    frames: int | None,
    crop: int | None,
    session: Session,
) -> None:
    """What the teacher's logits cost on the fly: steps with and without it, beside its share of the arithmetic.

    Without --teacher the teacher has the student's architecture.
    """
    from pclkd.benchmarks.teacher import TeacherBenchmark

    trained, shape = sized(backbone, teacher or backbone, width, batch_size, frames, crop)
    session.finish(TeacherBenchmark(trained, shape).run(session))
