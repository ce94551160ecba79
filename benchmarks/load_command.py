"""`bench-throughput load`."""

from pathlib import Path
from typing import Literal

import click

from pclkd.benchmarks.options import PATH, measuring
from pclkd.benchmarks.session import Session
from pclkd.sharding.errors import InputError

__all__ = ["load"]


@click.command()
@click.option("--data", type=PATH, required=True, help="Shard set of shard-ucf101 pack.")
@click.option("--videos", type=PATH, default=None, help="The originals, to compare with decoding them.")
@click.option("--splits", type=PATH, default=None, help="The split lists that belong to --videos.")
@click.option("--recipe", type=click.Choice(["plain", "pcl"]), default="plain", show_default=True, help="Work to do.")
@click.option("--batch-size", type=click.IntRange(min=1), default=16, show_default=True, help="Samples; 3 clips each.")
@click.option("--frames", type=int, default=16, show_default=True, help="Frames a clip.")
@click.option("--crop", type=int, default=None, help="Pixels a side.  [default: 112, or what fits]")
@click.option("--samples", type=click.IntRange(min=1), default=64, show_default=True, help="Samples a pass, at most.")
@click.option("--workers", type=click.IntRange(min=0), default=0, help="Threads or processes.  [default: one a core]")
@measuring
def load(
    data: Path,
    videos: Path | None,
    splits: Path | None,
    recipe: Literal["plain", "pcl"],
    batch_size: int,
    frames: int,
    crop: int | None,
    samples: int,
    workers: int,
    session: Session,
) -> None:
    """Clips a second of the loader, of bare range reads, and of torch DataLoaders with other libraries.

    plain: every loader crops, flips and normalises the same clips. pcl: the full augmentation, this loader alone.
    """
    if (videos is None) != (splits is None):
        raise InputError("--videos and --splits belong together, and only one is given", remedy="give both or neither")
    from pclkd.benchmarks.clip_shape import ClipShape
    from pclkd.benchmarks.load import LoadBenchmark, find_videos

    found = find_videos(videos, splits) if videos is not None and splits is not None else None
    benchmark = LoadBenchmark(data, found, recipe, ClipShape(batch_size, frames, crop), samples, workers)
    session.finish(benchmark.run(session))
