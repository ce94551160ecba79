"""`shard-ucf101 info`."""

import dataclasses
import json
from typing import TYPE_CHECKING

import click

from pclkd.sharding.inspection.summary import print_summary, summarise

if TYPE_CHECKING:
    from pclkd.sharding.inspection.quality import QualityTable
    from pclkd.sharding.shards.index import ShardIndex

__all__ = ["info"]

_VIDEOS = 64  # looked at for the table of qualities


@click.command()
@click.argument("out")
@click.option("--quality", metavar="VIDEOS", help="Measure what JPEG costs, on the originals: what was packed.")
@click.option("--json", "as_json", is_flag=True, help="Figures as JSON.")
def info(out: str, quality: str | None, as_json: bool) -> None:
    """Tell what the shard set in OUT holds.

    Class balance, lengths, bytes a frame, frame sizes and rates, splits, and why videos were left out.

    With --quality also PSNR, SSIM and bytes of the stored frames, and of other qualities and chroma samplings, against
    the scaled originals.
    """
    from pclkd.sharding.inspection.quality_text import print_quality
    from pclkd.sharding.inspection.statistics import measure_set
    from pclkd.sharding.inspection.text import print_statistics
    from pclkd.sharding.shards.index import ShardIndex

    index = ShardIndex.open(out, check_shards=False)
    statistics = measure_set(index)
    table = _measured(index, quality) if quality is not None else None
    if as_json:
        told = {**summarise(index.manifest), "statistics": dataclasses.asdict(statistics)}
        click.echo(json.dumps({**told, "quality": dataclasses.asdict(table)} if table else told, indent=1))
        return
    print_summary(index.manifest)
    print_statistics(statistics)
    if table:
        click.echo()
        print_quality(table)


def _measured(index: "ShardIndex", originals: str) -> "QualityTable":
    from pclkd.sharding.common.progress import show_progress
    from pclkd.sharding.inspection.quality import measure_quality

    with show_progress("comparing", min(_VIDEOS, len(index)), "videos") as step:
        return measure_quality(index, originals, videos=_VIDEOS, step=step)
