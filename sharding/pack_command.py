"""`shard-ucf101 pack`."""

import json
from typing import TYPE_CHECKING, Any

import click

from pclkd.sharding.dataset_options import dataset_options
from pclkd.sharding.engine_options import engine_options
from pclkd.sharding.frame_options import frame_options
from pclkd.sharding.inspection.summary import print_summary, summarise

if TYPE_CHECKING:
    from pclkd.sharding.packing.pack import PackPlan, PackReport

__all__ = ["pack"]

_QUARANTINED = 3


@click.command()
@click.argument("videos")
@click.argument("out")
@dataset_options
@frame_options
@engine_options
@click.option("--strict", is_flag=True, help="Refuse videos that are missing or that no list names.")
@click.option("--overwrite", is_flag=True, help="Replace a finished set in OUT; what would not change is kept.")
@click.option("--json", "as_json", is_flag=True, help="Summary as JSON.")
@click.pass_context
def pack(
    ctx: click.Context,
    videos: str,
    out: str,
    strict: bool,
    overwrite: bool,
    as_json: bool,
    source: dict[str, Any],
    frames: dict[str, Any],
    work: dict[str, Any],
) -> None:
    """Pack the videos in VIDEOS (a folder of class folders or clips, or a table .csv of paths) into shards in OUT.

    Both may be s3:// or gs:// URLs. A run that was stopped goes on when the command is given again.

    Exit code 0: all packed. 3: packed, but some videos could not be decoded; they are named. 2: wrong input, or the
    run had to stop; OUT holds no finished set, or the one that it held.
    """
    from pclkd.sharding.common.progress import show_progress
    from pclkd.sharding.packing.pack import pack_videos, plan_packing

    plan = plan_packing(videos, **source, **frames, strict=strict)
    if not as_json:
        for note in plan.dataset.notes:
            click.echo(f"note: {note}")
    with show_progress("packing", len(plan.dataset.videos), "videos") as step:
        report = pack_videos(plan, out, **work, overwrite=overwrite, step=step)
    if as_json:
        click.echo(json.dumps({**summarise(report.manifest), **_run_figures(plan, report)}, indent=1))
    else:
        print_summary(report.manifest)
        click.echo(_told(report, out))
    if report.manifest.quarantined:
        ctx.exit(_QUARANTINED)


def _run_figures(plan: "PackPlan", report: "PackReport") -> dict[str, Any]:
    return {
        "notes": plan.dataset.notes,
        "complete_already": report.complete,
        "shards_kept": report.kept,
        "shards_made": report.made,
        "retried": report.retried,
        "seconds": round(report.seconds, 3),
    }


def _told(report: "PackReport", out: str) -> str:
    if report.complete:
        return f"already complete, checked in {report.seconds:.1f} s: {out}"
    kept = f", {report.kept} of {report.kept + report.made} shards were there already" if report.kept else ""
    return f"packed in {report.seconds:.1f} s into {out}{kept}"
