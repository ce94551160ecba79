"""The command line `shard-ucf101`: synth, pack, verify, info.

Heavy imports stay inside the commands, so that `--help` answers at once.
"""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pclkd.sharding.console import CleanGroup

if TYPE_CHECKING:
    from pclkd.sharding.manifest import Manifest

__all__ = ["main"]

_FOLDER = click.Path(path_type=Path)
_QUARANTINED = 3
_DAMAGED = 1
_NAMED_AT_MOST = 10


class _Size(click.ParamType[tuple[int, int]]):
    """HEIGHTxWIDTH in pixels."""

    name = "HxW"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, int]:
        """Take "128x171" apart."""
        if isinstance(value, tuple):
            return value
        height, _, width = str(value).partition("x")
        if not (height.isdecimal() and width.isdecimal()):
            self.fail(f"{value!r} is not HEIGHTxWIDTH, such as 128x171", param, ctx)
        return int(height), int(width)


@click.group(cls=CleanGroup)
@click.version_option(package_name="pclkd")
def main() -> None:
    """Turn UCF101 videos into shards that a training run reads at full speed."""


@main.command()
@click.argument("out", type=_FOLDER)
@click.option("--classes", default=8, show_default=True, help="Actions, 2 to 10.")
@click.option("--groups", default=12, show_default=True, help="Landscapes and objects, 3 to 99.")
@click.option("--clips", default=4, show_default=True, help="Videos per class and group.")
@click.option("--frames", type=int, help="Frames of every video.  [default: 96 to 120, drawn]")
@click.option("--seed", default=0, show_default=True, help="The same seed gives the same bytes.")
@click.option("--size", type=_Size(), default="240x320", show_default=True, help="Pixels.")
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
    from pclkd.sharding.progress import show_progress
    from pclkd.sharding.synth import LISTS_FOLDER, VIDEOS_FOLDER, SynthSettings, render_dataset

    settings = SynthSettings(classes, groups, clips, frames, seed, *size)
    with show_progress("rendering", classes * groups * clips, "videos") as step:
        count = render_dataset(out, settings, workers=workers, step=step)
    click.echo(
        f"rendered {count} videos of {classes} classes into {out / VIDEOS_FOLDER}, lists in {out / LISTS_FOLDER}"
    )


@main.command()
@click.argument("videos", type=_FOLDER)
@click.argument("out", type=_FOLDER)
@click.option("--splits", type=_FOLDER, required=True, help="Folder of classInd.txt and the train and test lists.")
@click.option("--workers", type=click.IntRange(min=1), help="Processes.  [default: one a processor]")
@click.option("--size", type=_Size(), default="128x171", show_default=True, help="Stored frame size, pixels.")
@click.option("--quality", default=90, show_default=True, help="JPEG quality, 1 to 95.")
@click.option("--strict", is_flag=True, help="Refuse videos that are missing or that no list names.")
@click.option("--overwrite", is_flag=True, help="Replace a finished set in OUT.")
@click.option("--json", "as_json", is_flag=True, help="Summary as JSON.")
@click.pass_context
def pack(
    ctx: click.Context,
    videos: Path,
    out: Path,
    splits: Path,
    workers: int | None,
    size: tuple[int, int],
    quality: int,
    strict: bool,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Pack the videos in VIDEOS (the folder of class folders) into shards in OUT.

    Exit code 0: all packed. 3: packed, but some videos could not be decoded; they are named. 2: wrong input, nothing
    packed.
    """
    from pclkd.sharding.pack import pack_videos, plan_packing
    from pclkd.sharding.progress import show_progress

    plan = plan_packing(videos, splits, height=size[0], width=size[1], quality=quality, strict=strict)
    with show_progress("packing", len(plan.inventory.videos), "videos") as step:
        report = pack_videos(plan, out, workers=workers, overwrite=overwrite, step=step)
    if as_json:
        click.echo(json.dumps({**_summary(report.manifest), "seconds": round(report.seconds, 3)}, indent=1))
    else:
        _print_summary(report.manifest)
        click.echo(f"packed in {report.seconds:.1f} s into {out}")
    if report.manifest.quarantined:
        ctx.exit(_QUARANTINED)


@main.command()
@click.argument("out", type=_FOLDER)
@click.option("--json", "as_json", is_flag=True, help="Findings as JSON.")
@click.pass_context
def verify(ctx: click.Context, out: Path, as_json: bool) -> None:
    """Re-read the shard set in OUT against its checksums; name each damaged video.

    Exit code 0: sound. 1: damaged. 2: no shard set, or its manifest cannot be read.
    """
    from dataclasses import asdict

    from pclkd.sharding.manifest import Manifest
    from pclkd.sharding.progress import show_progress
    from pclkd.sharding.verify import verify_shards

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
@click.argument("out", type=_FOLDER)
@click.option("--json", "as_json", is_flag=True, help="Figures as JSON.")
def info(out: Path, as_json: bool) -> None:
    """Tell what the shard set in OUT holds."""
    from pclkd.sharding.manifest import Manifest

    manifest = Manifest.read(out)
    if as_json:
        click.echo(json.dumps(_summary(manifest), indent=1))
    else:
        _print_summary(manifest)


def _summary(manifest: "Manifest") -> dict[str, Any]:
    """Return the manifest's figures, with totals in place of long lists."""
    from dataclasses import asdict

    return {
        "source": manifest.source,
        "videos": manifest.videos,
        "frames": manifest.frames,
        "classes": list(manifest.classes),
        "splits": {number: asdict(count) for number, count in manifest.splits.items()},
        "shards": len(manifest.shards),
        "bytes": sum(shard.bytes for shard in manifest.shards),
        "settings": asdict(manifest.settings),
        "quarantined": [asdict(video) for video in manifest.quarantined],
        "missing": len(manifest.missing),
        "unlisted": len(manifest.unlisted),
        "format_version": manifest.format_version,
        "fingerprint": manifest.fingerprint,
    }


def _print_summary(manifest: "Manifest") -> None:
    settings = manifest.settings
    size = sum(shard.bytes for shard in manifest.shards)
    click.echo(f"source       {manifest.source}")
    click.echo(f"classes      {len(manifest.classes)}")
    click.echo(f"videos       {manifest.videos}, {manifest.frames} frames")
    click.echo(f"shards       {len(manifest.shards)}, {size / 1e6:.1f} MB")
    click.echo(f"stored as    {settings.height}x{settings.width}, JPEG quality {settings.quality} {settings.chroma}")
    for number, count in manifest.splits.items():
        click.echo(f"split {number}      {count.train} train, {count.test} test")
    click.echo(f"fingerprint  {manifest.fingerprint}")
    for what, names in (("listed but not on disk", manifest.missing), ("in no list", manifest.unlisted)):
        if names:
            click.echo(f"warning: {len(names)} videos {what}, the first is {names[0]}")
    for video in manifest.quarantined[:_NAMED_AT_MOST]:
        click.echo(f"quarantined: {video.video} {video.reason}")
    if len(manifest.quarantined) > _NAMED_AT_MOST:
        click.echo(f"quarantined: {len(manifest.quarantined) - _NAMED_AT_MOST} more, named in the manifest")
