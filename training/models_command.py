"""`train-kd models`."""

import json
from dataclasses import asdict

import click

__all__ = ["models"]


@click.command()
@click.option("--width", type=float, default=1.0, show_default=True, help="Factor on all channel counts.")
@click.option("--frames", type=click.IntRange(min=1), default=16, show_default=True, help="Frames a clip.")
@click.option("--crop", type=click.IntRange(min=16), default=112, show_default=True, help="Pixels a side.")
@click.option("--batch-size", type=click.IntRange(min=1), default=1, show_default=True, help="Clips a forward pass.")
@click.option("--no-speed", is_flag=True, help="Count only: answers at once.")
@click.option("--json", "as_json", is_flag=True, help="Figures as JSON.")
def models(width: float, frames: int, crop: int, batch_size: int, no_speed: bool, as_json: bool) -> None:
    """List the backbones: parameters, multiply-adds a clip, forward passes a second on this machine."""
    from pclkd.pipeline.world import World
    from pclkd.training.compute.distributed import choose_device
    from pclkd.training.models.registry import backbone_names
    from pclkd.training.models.table import measure_backbone, show_figures
    from pclkd.training.models.torchvision import TORCHVISION_NAMES

    device = choose_device(World())
    names = [name for name in backbone_names() if width == 1 or name not in TORCHVISION_NAMES]
    figures = [
        measure_backbone(name, width, (frames, crop), batch=batch_size, device=device, timed=not no_speed)
        for name in names
    ]
    if as_json:
        click.echo(json.dumps([asdict(row) for row in figures], indent=1))
        return
    click.echo(show_figures(figures))
    where = "a GPU" if device.type == "cuda" else f"the CPU, {World().cores} cores"
    note = "" if no_speed else f"; clips/s: forward passes, batch {batch_size}, on {where}"
    click.echo(f"\nclips of 3 x {frames} x {crop} x {crop}, width {width:g}{note}")
