"""shard-ucf101 info, preview and verify, as the command line gives them."""

import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from pclkd.sharding.inspection.quality import QualityTable
    from pclkd.sharding.shards.index import ShardIndex

__all__ = ["info", "preview", "verify"]

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
    from pclkd.sharding.inspection.statistics import measure_set
    from pclkd.sharding.inspection.text import print_quality, print_statistics, print_summary, summarise
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
    from pclkd.sharding.common.console import show_progress
    from pclkd.sharding.inspection.quality import measure_quality

    with show_progress("comparing", min(_VIDEOS, len(index)), "videos") as step:
        return measure_quality(index, originals, videos=_VIDEOS, step=step)


@click.command()
@click.argument("shards", metavar="OUT")
@click.option("--video", metavar="KEY", help="Which video, by its key.  [default: one frame of every class]")
@click.option(
    "--out", type=click.Path(path_type=Path), default=".", show_default="this folder", help="Folder for the pictures."
)
@click.option("--frames", type=click.IntRange(1, 400), help="Frames on a video's sheet.  [default: 12]")
def preview(shards: str, video: str | None, out: Path, frames: int | None) -> None:
    """Make pictures of the shard set in OUT.

    Of a video: a sheet of its frames, <KEY>.png, and <KEY>.gif, which plays at the stored speed.
    """
    from pclkd.sharding.inspection.preview import LONGEST_GIF, preview_classes, preview_video
    from pclkd.sharding.shards.index import ShardIndex
    from pclkd.sharding.shards.samples import find_sample

    index = ShardIndex.open(shards)
    if video is None:
        if frames is not None:
            raise click.UsageError("--frames is for the sheet of one video: say --video too.")
        click.echo(f"wrote {preview_classes(index, out)}")
        return
    for path in preview_video(index, video, out, frames=frames or 12):
        click.echo(f"wrote {path}")
    count = index.frame_count(find_sample(index, video))
    if count > LONGEST_GIF:
        click.echo(f"the GIF holds the first {LONGEST_GIF} of {count} frames")


_DAMAGED = 1


@click.command()
@click.argument("out")
@click.option("--json", "as_json", is_flag=True, help="Findings as JSON.")
@click.pass_context
def verify(ctx: click.Context, out: str, as_json: bool) -> None:
    """Re-read the shard set in OUT against its checksums; name each damaged video.

    Exit code 0: sound. 1: damaged. 2: no shard set, or its manifest cannot be read.
    """
    from pclkd.sharding.common.console import show_progress
    from pclkd.sharding.shards.manifest import Manifest
    from pclkd.sharding.shards.verify import verify_shards

    with show_progress("verifying", len(Manifest.read(out).shards), "shards") as step:
        report = verify_shards(out, step=step)
    if as_json:
        click.echo(json.dumps({**dataclasses.asdict(report), "damaged_videos": report.damaged_videos}, indent=1))
    else:
        for damage in report.damage:
            click.echo(f"damaged: {damage}")
        verdict = f"{len(report.damaged_videos)} videos damaged" if report.damage else "all sound"
        click.echo(f"{report.shards} shards, {report.videos} videos, {report.frames} frames: {verdict}")
    if report.damage:
        ctx.exit(_DAMAGED)
