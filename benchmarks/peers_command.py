"""`bench-throughput peers`."""

from pathlib import Path

import click

from pclkd.benchmarks.measuring.session import Session
from pclkd.benchmarks.options import PATH, Loaded, loading, measuring

__all__ = ["peers"]


@click.command()
@loading
@click.option("--videos", type=PATH, default=None, help="The originals; without them their readers are left out.")
@click.option("--splits", type=PATH, default=None, help="The lists that belong to --videos, where they have some.")
@measuring
def peers(videos: Path | None, splits: Path | None, loaded: Loaded, session: Session) -> None:
    """Clips a second of the loader, beside what people write without it: same clips, same work.

    From the originals: torch's DataLoader with PyAV, decord and torchcodec. From the shards: webdataset with Pillow,
    DALI's own webdataset reader, and folders of JPEG frames read by 16 processes. What is not installed is named.

    plain: crop, flip, normalise. full: colours, blur, pretext task and residual as well.
    """
    from pclkd.benchmarks.peers.benchmark import PeerBenchmark

    samples = loaded.samples_at_most(quick=session.quick)
    benchmark = PeerBenchmark(loaded.data, videos, splits, loaded.recipe, loaded.shape(), samples, loaded.workers)
    session.finish(benchmark.run(session))
