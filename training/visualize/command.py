"""train-kd visualize, as the command line gives it."""

from pathlib import Path

import click

__all__ = ["visualize"]

_PARTS = ("retrieval", "embedding", "confusion", "attention", "similarity", "collapse")


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--data", type=click.Path(path_type=Path), required=True, help="Shard set whose test videos are shown.")
@click.option("--out", type=click.Path(path_type=Path), default=None, help="Folder to write; by default RUN/learned.")
@click.option("--part", "parts", type=click.Choice(_PARTS), multiple=True, help="This part alone; again for more.")
@click.option(
    "--teacher",
    "teachers",
    type=click.Path(path_type=Path),
    multiple=True,
    help="Compare with this network; by default those that taught RUN.",
)
@click.option("--clips", type=click.IntRange(min=1), default=10, show_default=True, help="Clips a video.")
def visualize(
    run: Path, data: Path, out: Path | None, parts: tuple[str, ...], teachers: tuple[Path, ...], clips: int
) -> None:
    """Show what the network of RUN has learned: one page, with its pictures and numbers beside it.

    Nearest videos, all videos in a plane, confusion, attention (Grad-CAM), likeness to its teacher (CKA), collapse.
    """
    from pclkd.training.compute.neighbours import choose_waiting

    choose_waiting()
    from pclkd.training.visualize.visualize import visualize_run

    click.echo(f"wrote {visualize_run(run, data, out, parts=parts, clips=clips, teachers=teachers)}")
