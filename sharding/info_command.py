"""`shard-ucf101 info`."""

import json
from pathlib import Path

import click

from pclkd.sharding.options import FOLDER
from pclkd.sharding.summary import print_summary, summarise

__all__ = ["info"]


@click.command()
@click.argument("out", type=FOLDER)
@click.option("--json", "as_json", is_flag=True, help="Figures as JSON.")
def info(out: Path, as_json: bool) -> None:
    """Tell what the shard set in OUT holds."""
    from pclkd.sharding.manifest import Manifest

    manifest = Manifest.read(out)
    if as_json:
        click.echo(json.dumps(summarise(manifest), indent=1))
    else:
        print_summary(manifest)
