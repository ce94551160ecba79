"""`bench-throughput peers`."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from pclkd.benchmarks.options import PATH, loading, measuring
from pclkd.benchmarks.session import Session

if TYPE_CHECKING:
    from pclkd.benchmarks.load_case import RecipeName

__all__ = ["peers"]


@click.command()
@loading
@click.option("--videos", type=PATH, default=None, help="The originals; without them their readers are left out.")
@click.option("--splits", type=PATH, default=None, help="The lists that belong to --videos, where they have some.")
@measuring
def peers(
    data: Path,
    videos: Path | None,
    splits: Path | None,
    recipe: "RecipeName",
    batch_size: int,
    frames: int,
    crop: int | None,
    samples: int | None,
    workers: int,
    session: Session,
) -> None:
    """Clips a second of the loader, beside what people write without it: same clips, same work.

    From the originals: torch's DataLoader with PyAV, decord and torchcodec. From the shards: webdataset with Pillow,
    DALI's own webdataset reader, and folders of JPEG frames read by 16 processes. What is not installed is named.

    plain: crop, flip, normalise. full: colours, blur, pretext task and residual as well.
    """
    from pclkd.benchmarks.clip_shape import ClipShape
    from pclkd.benchmarks.peers import PeerBenchmark

    shape = ClipShape(batch_size, frames, crop)
    session.finish(
        PeerBenchmark(data, videos, splits, recipe, shape, samples or (16 if session.quick else 64), workers).run(
            session
        )
    )
