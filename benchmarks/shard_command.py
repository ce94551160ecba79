"""`bench-throughput shard`."""

from pathlib import Path

import click

from pclkd.benchmarks.measuring.session import Session
from pclkd.benchmarks.options import PATH, measuring
from pclkd.sharding.options import SIZE

__all__ = ["shard"]


@click.command()
@click.option("--videos", type=PATH, required=True, help="Folder of videos.")
@click.option("--splits", type=PATH, default=None, help="The lists that belong to --videos, where they have some.")
@click.option("--size", type=SIZE, default="128x171", show_default=True, help="Stored frame size, pixels.")
@click.option("--quality", type=int, default=90, show_default=True, help="JPEG quality, 1 to 95.")
@click.option(
    "--most", type=click.IntRange(min=1), default=None, help="Videos a pass, at most.  [default: 24; quick: 6]"
)
@click.option("--workers", type=click.IntRange(min=0), default=0, help="Processes of a whole run.  [one a core]")
@measuring
def shard(
    videos: Path,
    splits: Path | None,
    size: tuple[int, int],
    quality: int,
    most: int | None,
    workers: int,
    session: Session,
) -> None:
    """Source frames a second and core on the way to JPEG: ours, the plain loop, each stage alone, and a whole run."""
    from pclkd.benchmarks.packing.benchmark import ShardBenchmark
    from pclkd.sharding.shards.manifest import PackSettings

    settings = PackSettings(*size, quality=quality)
    most, run_frames = most or (6 if session.quick else 24), 4_000 if session.quick else 40_000
    session.finish(ShardBenchmark(videos, splits, settings, most, run_frames, workers).run(session))
