"""Figures of a shard set as text: bars in colour on a terminal, rows of '#' elsewhere."""

import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from pclkd.sharding.common.errors import visible
from pclkd.sharding.datasets.video_files import told_suffixes
from pclkd.sharding.shards.manifest import Manifest
from pclkd.sharding.video.settings import PackSettings, settings_as_json

if TYPE_CHECKING:  # the command line loads this file, and must not wait for NumPy and the video decoder
    from pclkd.sharding.inspection.quality import QualityTable
    from pclkd.sharding.inspection.statistics import Spread, Statistics

__all__ = ["print_quality", "print_statistics", "print_summary", "summarise"]


_NAMED_AT_MOST = 10


def summarise(manifest: Manifest) -> dict[str, Any]:
    """Return the manifest's figures, with totals in place of long lists."""
    return {
        "dataset": manifest.dataset,
        "source": manifest.source,
        "videos": manifest.videos,
        "frames": manifest.frames,
        "classes": list(manifest.classes),
        "splits": {number: asdict(count) for number, count in manifest.splits.items()},
        "shards": len(manifest.shards),
        "bytes": sum(shard.bytes for shard in manifest.shards),
        "settings": settings_as_json(manifest.settings),
        "quarantined": [asdict(video) for video in manifest.quarantined],
        "missing": len(manifest.missing),
        "unlisted": len(manifest.unlisted),
        "remarks": [asdict(remark) for remark in manifest.remarks],
        "other_files": manifest.other_files,
        "format_version": manifest.format_version,
        "fingerprint": manifest.fingerprint,
    }


def print_summary(manifest: Manifest) -> None:
    """Write the manifest's figures to standard output, and what is missing or was left out."""
    size = sum(shard.bytes for shard in manifest.shards)
    click.echo(f"source       {manifest.source} ({manifest.dataset})")
    click.echo(f"classes      {len(manifest.classes)}")
    click.echo(f"videos       {manifest.videos}, {manifest.frames} frames")
    click.echo(f"shards       {len(manifest.shards)}, {size / 1e6:.1f} MB")
    click.echo(f"stored as    {_stored_as(manifest.settings)}")
    for number, count in manifest.splits.items():
        click.echo(f"split {number}      {count.train} train, {count.test} test")
    click.echo(f"fingerprint  {manifest.fingerprint}")
    for what, names in (("listed but not on disk", manifest.missing), ("in no list", manifest.unlisted)):
        if names:
            click.echo(f"warning: {len(names)} videos {what}, the first is {names[0]}")
    if manifest.other_files:
        click.echo(f"not videos   {told_suffixes(manifest.other_files)}")
    _name("note", [f"{remark.video} {remark.told}" for remark in manifest.remarks])
    _name("quarantined", [f"{video.video} {video.reason}" for video in manifest.quarantined])


def _name(what: str, lines: Sequence[str]) -> None:
    for line in lines[:_NAMED_AT_MOST]:
        click.echo(f"{what}: {visible(line)}")
    if len(lines) > _NAMED_AT_MOST:
        click.echo(f"{what}: {len(lines) - _NAMED_AT_MOST} more, named in the manifest")


def _stored_as(settings: PackSettings) -> str:
    size = f"short side {settings.short_side}" if settings.short_side else f"{settings.height}x{settings.width}"
    rate = f", {settings.fps:g} frames/s" if settings.fps else ""
    cut = f", at most {settings.max_frames} frames" if settings.max_frames else ""
    salvaged = f", damaged videos from {settings.salvage} sound frames on" if settings.salvage else ""
    return f"{size}, JPEG quality {settings.quality} {settings.chroma}{rate}{cut}{salvaged}"


def print_quality(table: "QualityTable") -> None:
    """Write the table to standard output: a row for what the set holds, then one for each quality and chroma."""
    click.echo(
        f"measured on {table.frames} frames of {table.videos} videos against the scaled originals\n"
        "                    bytes   of this    PSNR    worst     PSNR    SSIM    SSIM\n"
        "quality  chroma   a frame      set   RGB dB   RGB dB  luma dB     RGB    luma"
    )
    stored = table.rows[0].bytes_per_frame
    for row in table.rows:
        line = (
            f"{row.quality:>7}  {row.chroma:<6}  {row.bytes_per_frame:>8.0f}  {row.bytes_per_frame / stored:>7.0%}"
            f"  {row.psnr_rgb_db:>7.2f}  {row.psnr_rgb_db_worst:>7.2f}  {row.psnr_luma_db:>7.2f}"
            f"  {row.ssim_rgb:>6.4f}  {row.ssim_luma:>6.4f}"
        )
        click.echo(click.style(line + "  (stored)", bold=True) if row.stored else line)


_CLASSES_AT_MOST = 24
_LONGEST_BAR = 50
_EIGHTHS = " ▏▎▍▌▋▊▉"


def print_statistics(statistics: "Statistics") -> None:
    """Write class balance, lengths, bytes a frame, sizes, rates and reasons of quarantine to standard output."""
    if statistics.videos_per_class:
        _heading("per class", _balance(statistics.videos_per_class))
        _bars(_some(statistics.videos_per_class))
    else:
        _heading("per class", "the videos have no labels")
    _heading("lengths", _told(statistics.frames_per_video) + " frames")
    last = len(statistics.lengths) - 1
    _bars(
        {
            f"{bin.start} to {bin.stop - 1}" if number < last else f"{bin.start} and more": bin.videos
            for number, bin in enumerate(statistics.lengths)
        }
    )
    _heading("JPEG bytes", _told(statistics.bytes_per_frame) + " a frame")
    _heading("frame size", _listed(statistics.frame_sizes))
    videos = sum(statistics.videos_per_class.values()) + statistics.unlabelled
    some = "" if statistics.fps_videos == videos else f" (of {statistics.fps_videos} videos looked at)"
    _heading("frames/s", _listed(statistics.fps) + some)
    if uneven := statistics.variable_rate_videos:
        _heading("", f"variable in {uneven} of {videos} videos: index/frame_time.npy has the time of each frame")
    if statistics.quarantine:
        _heading("quarantined", f"{sum(statistics.quarantine.values())} videos")
        _bars({visible(reason): count for reason, count in statistics.quarantine.items()})


def _heading(name: str, text: str) -> None:
    click.echo(click.style(f"{name:<13}", bold=True) + text)


def _balance(videos: Mapping[str, int]) -> str:
    counts = sorted(count for count in videos.values() if count)
    held = f"{len(counts)} of {len(videos)} classes have any; " if len(counts) < len(videos) else ""
    return f"{held}min {counts[0]}, median {counts[len(counts) // 2]}, max {counts[-1]} videos"


def _told(spread: "Spread") -> str:
    return f"min {spread.min}, median {spread.median}, mean {spread.mean:.0f}, p99 {spread.p99}, max {spread.max}"


def _listed(counts: Mapping[str, int], at_most: int = 6) -> str:
    shown = [f"{name} ({count})" for name, count in list(counts.items())[:at_most]]
    return ", ".join(shown + ([f"{len(counts) - at_most} more"] if len(counts) > at_most else []))


def _some(videos: Mapping[str, int]) -> dict[str, int | None]:
    """Return the classes that have videos, the largest first; of very many, both ends with a gap (None) between."""
    held = sorted(((name, count) for name, count in videos.items() if count), key=lambda pair: (-pair[1], pair[0]))
    if len(held) <= _CLASSES_AT_MOST:
        return dict(held)
    half = _CLASSES_AT_MOST // 2
    gap = f"... {len(held) - 2 * half} classes ..."
    return {**dict(held[:half]), gap: None, **dict(held[-half:])}


def _bars(counts: Mapping[str, int | None]) -> None:
    names = max(map(len, counts))
    numbers = len(str(max(count or 0 for count in counts.values())))
    room = max(10, min(_LONGEST_BAR, shutil.get_terminal_size().columns - names - numbers - 6))
    most = max(1, *(count or 0 for count in counts.values()))
    for name, count in counts.items():
        if count is None:
            click.echo(f"  {name}")
        else:
            bar = "  " + click.style(_bar(room * count / most), fg="cyan") if count else ""
            click.echo(f"  {name:<{names}}  {count:>{numbers}}{bar}")


def _bar(length: float) -> str:
    encoding = (getattr(sys.stdout, "encoding", None) or "").lower().replace("-", "")
    if not (sys.stdout.isatty() and encoding == "utf8"):
        return "#" * max(round(length), length > 0)
    eighths = max(round(8 * length), length > 0)
    return "█" * (eighths // 8) + _EIGHTHS[eighths % 8].strip()
