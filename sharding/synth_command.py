"""`shard-ucf101 synth`."""

from pathlib import Path

import click

from pclkd.sharding.options import FOLDER, SIZE

__all__ = ["synth"]


@click.command()
@click.argument("out", type=FOLDER)
@click.option("--classes", default=8, show_default=True, help="Actions, 2 to 10.")
@click.option("--groups", default=12, show_default=True, help="Landscapes and objects, 3 to 99.")
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
    from pclkd.sharding.common.progress import show_progress
    from pclkd.sharding.synth.dataset import LISTS_FOLDER, VIDEOS_FOLDER, SynthSettings, render_dataset

    settings = SynthSettings(classes, groups, clips, frames, seed, *size)
    with show_progress("rendering", classes * groups * clips, "videos") as step:
        count = render_dataset(out, settings, workers=workers, step=step)
    place = f"{out / VIDEOS_FOLDER}, lists in {out / LISTS_FOLDER}"
    click.echo(f"rendered {count} videos of {classes} classes into {place}")
