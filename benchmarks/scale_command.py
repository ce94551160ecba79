"""`bench-throughput scale`."""

from itertools import chain
from pathlib import Path

import click

from pclkd.benchmarks.measuring.session import Session
from pclkd.benchmarks.options import COUNTS, PATH, Trained, has_gpu, measuring, training

__all__ = ["scale"]


@click.command()
@click.option("--data", type=PATH, required=True, help="Shard set of shard-ucf101 pack; for --videos it is repeated.")
@click.option(
    "--videos",
    type=COUNTS,
    multiple=True,
    help="Sizes of data sets, as 1000,10000.  [default: 1000, 10000, 100000, 1000000; quick: 1000, 100000]",
)
@click.option(
    "--processes",
    type=COUNTS,
    multiple=True,
    help="Sizes of training jobs, as 1,2.  [default: 1, 2, 4, 8, as many as there are GPUs, or cores without one]",
)
@click.option("--split", type=click.IntRange(min=1), default=1, show_default=True, help="Jobs train on its train part.")
@click.option("--steps", type=click.IntRange(min=1), default=None, help="Of a pass.  [default: 50; 5 without a GPU]")
@click.option("--scratch", type=PATH, default=None, help="Folder for the large sets: 3 GB a million UCF101 videos.")
@training
@measuring
def scale(
    data: Path,
    videos: tuple[tuple[int, ...], ...],
    processes: tuple[tuple[int, ...], ...],
    split: int,
    steps: int | None,
    scratch: Path | None,
    trained: Trained,
    session: Session,
) -> None:
    """What growth costs: larger data sets, and jobs of more processes; with --videos or --processes, that one alone.

    Videos: seconds and memory to open a shard set and to get its first batch (16 samples of 16 frames and 112 pixels by
    default). Processes: samples a second of training end to end, beside N times one process; bytes that are exchanged
    and read.
    """
    from pclkd.benchmarks.growth.benchmark import ScaleBenchmark, with_processes
    from pclkd.benchmarks.loading.clip_shape import ClipShape
    from pclkd.benchmarks.processes.benchmark import ProcessScaleBenchmark, usual_processes

    both = bool(videos) == bool(processes)
    found = None
    if videos or both:
        usual = (1000, 100_000) if session.quick else (1000, 10_000, 100_000, 1_000_000)
        frames = 16 if trained.frames is None else trained.frames
        shape = ClipShape(trained.batch_size or 16, frames, trained.crop)
        sizes = tuple(chain(*videos)) or usual
        found = ScaleBenchmark(data, sizes, shape, scratch).run(session.share(0.5) if both else session)
    if processes or both:
        networks = trained.networks(trained.teacher)
        steps = steps or (50 if has_gpu() else 5)
        counts = tuple(chain(*processes)) or tuple(usual_processes())
        jobs = ProcessScaleBenchmark(data, split, networks, trained.shape(), steps, counts).run(session)
        found = jobs if found is None else with_processes(found, jobs)
    if found is not None:
        session.finish(found)
