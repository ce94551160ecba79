"""The command line `shard-ucf101`.

Heavy imports stay inside the commands, so that `--help` answers at once.
"""

import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pclkd.sharding.common.console import CleanGroup
from pclkd.sharding.common.user_modules import import_user_module
from pclkd.sharding.inspection.command import info, preview, verify
from pclkd.sharding.options import FOLDER, PART, SIZE, dataset_options, engine_options, frame_options

if TYPE_CHECKING:
    from pclkd.sharding.packing.deal import PackPart
    from pclkd.sharding.packing.pack import PackReport, PartReport

__all__ = ["main"]


@click.group(cls=CleanGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="pclkd")
@click.option(
    "--import",
    "modules",
    multiple=True,
    metavar="MODULE",
    help="Import this module or .py file first: it registers layouts of data sets of yours (register_layout).",
)
def main(modules: tuple[str, ...]) -> None:
    """Turn action videos into shards that a training run reads at full speed."""
    for module in modules:
        import_user_module(module)


_QUARANTINED = 3


for command in (info, preview, verify):
    main.add_command(command)


@main.command()
@click.argument("videos")
@click.argument("out")
@dataset_options
@frame_options
@engine_options
@click.option("--strict", is_flag=True, help="Refuse videos that are missing or that no list names.")
@click.option("--allow-empty-split", is_flag=True, help="Pack although a split has no train or no test video there.")
@click.option("--overwrite", is_flag=True, help="Replace a finished set in OUT; only what is new is decoded.")
@click.option("--part", type=PART, help="Make the I-th of N parts; when all are there: shard-ucf101 finish OUT.")
@click.option("--json", "as_json", is_flag=True, help="Summary as JSON.")
@click.pass_context
def pack(
    ctx: click.Context,
    videos: str,
    out: str,
    strict: bool,
    allow_empty_split: bool,
    overwrite: bool,
    part: "PackPart | None",
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
    from pclkd.sharding.common.console import show_progress
    from pclkd.sharding.packing.deal import deal_videos
    from pclkd.sharding.packing.pack import pack_part, pack_videos, plan_packing

    plan = plan_packing(videos, **source, **frames, strict=strict, allow_empty_split=allow_empty_split)
    if not as_json:
        for note in plan.dataset.notes:
            click.echo(f"note: {note}")
    if part is None:
        with show_progress("packing", len(plan.dataset.videos), "videos") as step:
            report = pack_videos(plan, out, **work, overwrite=overwrite, step=step)
        _tell_set(ctx, report, out, as_json, {"notes": plan.dataset.notes})
        return
    if overwrite:
        raise click.UsageError("--part makes a new set; --overwrite is for one run that makes all of it.")
    shards = part.share(list(deal_videos(plan.dataset.videos, plan.settings.videos_per_shard).values()))
    with show_progress(f"packing part {part}", sum(map(len, shards)), "videos") as step:
        made = pack_part(plan, out, part, **work, step=step)
    if as_json:
        left_out = [dataclasses.asdict(video) for video in made.quarantined]
        click.echo(json.dumps({"part": str(part), "quarantined": left_out, **_run_figures(made)}, indent=1))
        return
    for video in made.quarantined:
        click.echo(f"quarantined: {video.video} {video.reason}")
    click.echo(f"part {part}: {made.videos} videos packed in {made.seconds:.1f} s into {out}{_kept(made)}")
    click.echo(f"when all {part.of} parts are there: shard-ucf101 finish {out}")


def _tell_set(
    ctx: click.Context, report: "PackReport", out: str, as_json: bool, more: dict[str, Any] | None = None
) -> None:
    from pclkd.sharding.inspection.text import print_summary, summarise

    if as_json:
        told = {**summarise(report.manifest), **(more or {}), "complete_already": report.complete}
        click.echo(json.dumps({**told, **_run_figures(report)}, indent=1))
    else:
        print_summary(report.manifest)
        if report.complete:
            click.echo(f"already complete, checked in {report.seconds:.1f} s: {out}")
        else:
            click.echo(f"packed in {report.seconds:.1f} s into {out}{_kept(report)}")
    if report.manifest.quarantined:
        ctx.exit(_QUARANTINED)


def _run_figures(report: "PartReport") -> dict[str, Any]:
    return {
        "shards_kept": report.kept,
        "shards_made": report.made,
        "videos_taken_over": report.taken_over,
        "retried": report.retried,
        "seconds": round(report.seconds, 3),
    }


def _kept(report: "PartReport") -> str:
    kept = f", {report.kept} of {report.kept + report.made} shards were there already" if report.kept else ""
    return kept + (f", {report.taken_over} videos copied, not decoded" if report.taken_over else "")


@main.command()
@click.argument("out")
@click.option("--json", "as_json", is_flag=True, help="Summary as JSON.")
@click.pass_context
def finish(ctx: click.Context, out: str, as_json: bool) -> None:
    """Put together the set whose parts were packed into OUT with pack --part.

    The bytes are those of one run. Exit codes as of pack; 2 names the parts that are missing.
    """
    from pclkd.sharding.packing.finish import finish_set

    _tell_set(ctx, finish_set(out), out, as_json)


@main.command()
@click.argument("first")
@click.argument("second")
@click.argument("out")
@click.option("--workers", type=click.IntRange(min=1), help="Processes.  [default: one a processor]")
@click.option("--json", "as_json", is_flag=True, help="Summary as JSON.")
@click.pass_context
def merge(ctx: click.Context, first: str, second: str, out: str, workers: int | None, as_json: bool) -> None:
    """Join the shard sets FIRST and SECOND into a new one in OUT, without decoding anything.

    Both must be made with the same settings. Classes and splits of one name become one. Exit codes as of pack.
    """
    from pclkd.sharding.common.console import show_progress
    from pclkd.sharding.packing.merge import merge_sets
    from pclkd.sharding.shards.manifest import Manifest

    total = Manifest.read(first).videos + Manifest.read(second).videos
    with show_progress("merging", total, "videos") as step:
        report = merge_sets(first, second, out, workers=workers, step=step)
    _tell_set(ctx, report, out, as_json)


@main.command()
@click.argument("out", type=FOLDER)
@click.option("--classes", default=8, show_default=True, help="Actions, 2 to 10.")
@click.option("--groups", default=16, show_default=True, help="Landscapes and objects, 3 to 99.")
@click.option("--clips", default=4, show_default=True, help="Videos per class and group.")
@click.option("--frames", type=int, help="Frames of every video.  [default: 96 to 120, drawn]")
@click.option("--seed", default=0, show_default=True, help="The same seed gives the same bytes.")
@click.option("--size", type=SIZE, default="240x320", show_default=True, help="Pixels.")
@click.option("--workers", type=click.IntRange(min=1), help="Processes.  [default: one a processor]")
def synth(
    out: Path,
    classes: int,
    groups: int,
    clips: int,
    frames: int | None,
    seed: int,
    size: tuple[int, int],
    workers: int | None,
) -> None:
    """Render the embedded data set into OUT/UCF-101 and OUT/ucfTrainTestlist.

    Ten actions that only their motion tells apart, in the folder layout and with the split lists of UCF101.
    """
    from pclkd.sharding.common.console import show_progress
    from pclkd.sharding.synth.dataset import LISTS_FOLDER, VIDEOS_FOLDER, SynthSettings, render_dataset

    height, width = size
    settings = SynthSettings.given(
        classes=classes, groups=groups, clips=clips, frames=frames, seed=seed, height=height, width=width
    )
    with show_progress("rendering", classes * groups * clips, "videos") as step:
        count = render_dataset(out, settings, workers=workers, step=step)
    place = f"{out / VIDEOS_FOLDER}, lists in {out / LISTS_FOLDER}"
    click.echo(f"rendered {count} videos of {classes} classes into {place}")
