"""A shard set in a few lines, as text and as JSON."""

from dataclasses import asdict
from typing import Any

import click

from pclkd.sharding.shards.manifest import Manifest, PackSettings

__all__ = ["print_summary", "summarise"]

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
        "settings": asdict(manifest.settings),
        "quarantined": [asdict(video) for video in manifest.quarantined],
        "missing": len(manifest.missing),
        "unlisted": len(manifest.unlisted),
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
    for video in manifest.quarantined[:_NAMED_AT_MOST]:
        click.echo(f"quarantined: {video.video} {video.reason}")
    if len(manifest.quarantined) > _NAMED_AT_MOST:
        click.echo(f"quarantined: {len(manifest.quarantined) - _NAMED_AT_MOST} more, named in the manifest")


def _stored_as(settings: PackSettings) -> str:
    size = f"short side {settings.short_side}" if settings.short_side else f"{settings.height}x{settings.width}"
    rate = f", {settings.fps:g} frames/s" if settings.fps else ""
    cut = f", at most {settings.max_frames} frames" if settings.max_frames else ""
    return f"{size}, JPEG quality {settings.quality} {settings.chroma}{rate}{cut}"
