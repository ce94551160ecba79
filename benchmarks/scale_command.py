"""`bench-throughput scale`."""

from pathlib import Path

import click

from pclkd.benchmarks.options import PATH, measuring
from pclkd.benchmarks.session import Session

__all__ = ["scale"]


@click.command()
@click.option("--data", type=PATH, required=True, help="Small shard set of shard-ucf101 pack, to be repeated.")
@click.option(
    "--videos",
    type=click.IntRange(min=1),
    multiple=True,
    help="Size; may be given several times.  [default: 1000, 10000, 100000, 1000000; quick: 1000, 100000]",
)
@click.option("--scratch", type=PATH, default=None, help="Folder for the large sets: 3 GB a million UCF101 videos.")
@click.option("--batch-size", type=click.IntRange(min=1), default=16, show_default=True, help="Samples; 3 clips each.")
@click.option("--frames", type=int, default=16, show_default=True, help="Frames a clip.")
@click.option("--crop", type=int, default=None, help="Pixels a side.  [default: 112, or what fits]")
@measuring
def scale(
    data: Path,
    videos: tuple[int, ...],
    scratch: Path | None,
    batch_size: int,
    frames: int,
    crop: int | None,
    session: Session,
) -> None:
    """Seconds and memory to open a shard set and to get its first batch, by the number of its videos."""
    from pclkd.benchmarks.clip_shape import ClipShape
    from pclkd.benchmarks.scale import ScaleBenchmark

    sizes = videos or ((1000, 100_000) if session.quick else (1000, 10_000, 100_000, 1_000_000))
    session.finish(ScaleBenchmark(data, sizes, ClipShape(batch_size, frames, crop), scratch).run(session))
