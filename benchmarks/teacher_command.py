"""`bench-throughput teacher`."""

import click

from pclkd.benchmarks.measuring.session import Session
from pclkd.benchmarks.options import Trained, measuring, training

__all__ = ["teacher"]


@click.command("teacher")
@training
@measuring
def teacher(trained: Trained, session: Session) -> None:
    """What the teacher's logits cost on the fly: steps with and without it, beside its share of the arithmetic.

    Without --teacher the teacher has the student's architecture.
    """
    from pclkd.benchmarks.steps.teacher import TeacherBenchmark

    networks = trained.networks(trained.teacher or trained.backbone)
    session.finish(TeacherBenchmark(networks, trained.shape()).run(session))
