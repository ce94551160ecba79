"""`shard-ucf101 pack`."""

import json
from pathlib import Path
from typing import Any

import click

from pclkd.sharding.dataset_options import dataset_options
from pclkd.sharding.frame_options import frame_options
from pclkd.sharding.options import FOLDER
from pclkd.sharding.summary import print_summary, summarise

__all__ = ["pack"]

_QUARANTINED = 3


@click.command()
@click.argument("videos", type=FOLDER)
@click.argument("out", type=FOLDER)
@dataset_options
@click.option("--workers", type=click.IntRange(min=1), help="Processes.  [default: one a processor]")
@frame_options
@click.option("--strict", is_flag=True, help="Refuse videos that are missing or that no list names.")
@click.option("--overwrite", is_flag=True, help="Replace a finished set in OUT.")
@click.option("--json", "as_json", is_flag=True, help="Summary as JSON.")
@click.pass_context
def pack(
    ctx: click.Context,
    videos: Path,
    out: Path,
    workers: int | None,
    strict: bool,
    overwrite: bool,
    as_json: bool,
    source: dict[str, Any],
    frames: dict[str, Any],
) -> None:
    """Pack the videos in VIDEOS (a folder of class folders or clips, or a table .csv of paths) into shards in OUT.

    Exit code 0: all packed. 3: packed, but some videos could not be decoded; they are named. 2: wrong input, nothing
    packed.
    """
    from pclkd.sharding.pack import pack_videos, plan_packing
    from pclkd.sharding.progress import show_progress

    plan = plan_packing(videos, **source, **frames, strict=strict)
    if not as_json:
        for note in plan.dataset.notes:
            click.echo(f"note: {note}")
    with show_progress("packing", len(plan.dataset.videos), "videos") as step:
        report = pack_videos(plan, out, workers=workers, overwrite=overwrite, step=step)
    if as_json:
        click.echo(
            json.dumps(
                {**summarise(report.manifest), "notes": plan.dataset.notes, "seconds": round(report.seconds, 3)},
                indent=1,
            )
        )
    else:
        print_summary(report.manifest)
        click.echo(f"packed in {report.seconds:.1f} s into {out}")
    if report.manifest.quarantined:
        ctx.exit(_QUARANTINED)
