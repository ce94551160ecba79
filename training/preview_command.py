"""`train-kd preview`."""

from pathlib import Path

import click

__all__ = ["preview"]


@click.command()
@click.option("--data", required=True, help="Shard set of shard-ucf101 pack, a folder or a URL.")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder for the pictures.")
@click.option("--preset", default="pcl", show_default=True, help="pcl: as published; demo: small and quick.")
@click.option("--set", "assignments", multiple=True, metavar="NAME=VALUE", help="Change any setting.")
@click.option("--samples", type=click.IntRange(min=1), default=5, show_default=True, help="Sheets and GIFs to make.")
@click.option("--compare", is_flag=True, help="Show the stored frames as well, with the window that is cut out.")
def preview(data: str, out: Path, preset: str, assignments: tuple[str, ...], samples: int, compare: bool) -> None:
    """Make pictures of what the network is fed: augmented tuples with their pretext class and parameters.

    Writes overview.png, with every pretext class, and a sheet and a GIF of each of some samples.
    """
    from pclkd.training import settings as all_settings
    from pclkd.training.preview.preview import write_previews

    settings = all_settings.override(all_settings.preset(preset), assignments)
    for path in write_previews(data, out, settings, samples=samples, compare=compare):
        click.echo(f"wrote {path}")
