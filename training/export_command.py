"""`train-kd export`."""

from pathlib import Path

import click

__all__ = ["export"]


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--onnx", is_flag=True, help="Write ONNX too and check it on clips of --data.")
@click.option("--data", type=click.Path(path_type=Path), default=None, help="Shard set, for the check of --onnx.")
def export(run: Path, out: Path, onnx: bool, data: Path | None) -> None:
    """Write the backbone of RUN into the folder OUT: safetensors, a card, and ONNX where asked for."""
    from pclkd.training.exchange.export import export_backbone, export_onnx

    if onnx and data is None:
        raise click.UsageError("Missing option '--data': --onnx is checked on real clips.")
    card = export_backbone(run, out)
    size = card["backbone"]
    click.echo(f"{size['name']} x{size['width']:g}, {size['parameters']:,} parameters, in {out}")
    if onnx and data is not None:
        difference = export_onnx(run, out, data)
        click.echo(f"ONNX: its features differ from PyTorch's by {difference:.1e} of the largest")
