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
from pclkd.sharding.options import FOLDER, PART, SIZE, dataset_options, engine_options, frame_options

if TYPE_CHECKING:
    from pclkd.sharding.inspection.quality import QualityTable
    from pclkd.sharding.packing.deal import PackPart
    from pclkd.sharding.packing.pack import PackReport, PartReport
    from pclkd.sharding.shards.index import ShardIndex

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


_VIDEOS = 64  # looked at for the table of qualities


@main.command()
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


@main.command()
@click.argument("shards", metavar="OUT")
@click.option("--video", metavar="KEY", help="Which video, by its key.  [default: one frame of every class]")
@click.option("--out", type=FOLDER, default=".", show_default="this folder", help="Folder for the pictures.")
@click.option("--frames", type=click.IntRange(1, 400), default=12, show_default=True, help="Frames on a video's sheet.")
def preview(shards: str, video: str | None, out: Path, frames: int) -> None:
    """Make pictures of the shard set in OUT.

    Of a video: a sheet of its frames, <KEY>.png, and <KEY>.gif, which plays at the stored speed.
    """
    from pclkd.sharding.inspection.preview import LONGEST_GIF, preview_classes, preview_video
    from pclkd.sharding.shards.index import ShardIndex
    from pclkd.sharding.shards.samples import find_sample

    index = ShardIndex.open(shards)
    if video is None:
        click.echo(f"wrote {preview_classes(index, out)}")
        return
    for path in preview_video(index, video, out, frames=frames):
        click.echo(f"wrote {path}")
    count = index.frame_count(find_sample(index, video))
    if count > LONGEST_GIF:
        click.echo(f"the GIF holds the first {LONGEST_GIF} of {count} frames")


_DAMAGED = 1


@main.command()
@click.argument("out")
@click.option("--json", "as_json", is_flag=True, help="Findings as JSON.")
@click.pass_context
def verify(ctx: click.Context, out: str, as_json: bool) -> None:
    """Re-read the shard set in OUT against its checksums; name each damaged video.

    Exit code 0: sound. 1: damaged. 2: no shard set, or its manifest cannot be read.
    """
    from dataclasses import asdict

    from pclkd.sharding.common.console import show_progress
    from pclkd.sharding.shards.manifest import Manifest
    from pclkd.sharding.shards.verify import verify_shards

    with show_progress("verifying", len(Manifest.read(out).shards), "shards") as step:
        report = verify_shards(out, step=step)
    if as_json:
        click.echo(json.dumps({**asdict(report), "damaged_videos": report.damaged_videos}, indent=1))
    else:
        for damage in report.damage:
            click.echo(f"damaged: {damage}")
        verdict = f"{len(report.damaged_videos)} videos damaged" if report.damage else "all sound"
        click.echo(f"{report.shards} shards, {report.videos} videos, {report.frames} frames: {verdict}")
    if report.damage:
        ctx.exit(_DAMAGED)


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
