"""`shard-ucf101 verify`."""

import json

import click

__all__ = ["verify"]

_DAMAGED = 1


@click.command()
@click.argument("out")
@click.option("--json", "as_json", is_flag=True, help="Findings as JSON.")
@click.pass_context
def verify(ctx: click.Context, out: str, as_json: bool) -> None:
    """Re-read the shard set in OUT against its checksums; name each damaged video.

    Exit code 0: sound. 1: damaged. 2: no shard set, or its manifest cannot be read.
    """
    from dataclasses import asdict

    from pclkd.sharding.common.progress import show_progress
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
