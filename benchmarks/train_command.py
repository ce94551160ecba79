"""`bench-throughput train`."""

from pathlib import Path

import click

from pclkd.benchmarks.measuring.session import Session
from pclkd.benchmarks.options import PATH, Trained, has_gpu, measuring, training

__all__ = ["train"]


@click.command()
@click.option("--data", type=PATH, required=True, help="Shard set of shard-ucf101 pack.")
@click.option("--split", type=click.IntRange(min=1), default=1, show_default=True, help="Its train part is used.")
@click.option(
    "--steps", type=click.IntRange(min=1), default=None, help="A pass, at most.  [default: 50; 5 without a GPU]"
)
@click.option("--workers", type=click.IntRange(min=0), default=0, help="Loader threads.  [default: one a core]")
@training
@measuring
def train(
    data: Path,
    split: int,
    steps: int | None,
    workers: int,
    trained: Trained,
    session: Session,
) -> None:
    """Samples a second of training end to end, beside the same step alone and the loader alone.

    Without --teacher it is PCL alone, with one PCL+KD.
    """
    from pclkd.benchmarks.steps.train import TrainBenchmark

    networks, steps = trained.networks(trained.teacher), steps or (50 if has_gpu() else 5)
    session.finish(TrainBenchmark(data, split, networks, trained.shape(), steps, workers).run(session))
