"""Options that several commands share."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from pclkd.benchmarks.clip_shape import ClipShape
    from pclkd.benchmarks.step_case import StepNetworks

__all__ = ["PATH", "has_gpu", "measuring", "networks", "sized"]

PATH = click.Path(path_type=Path)
Command = Callable[..., None]


def networks(command: Command) -> Command:
    """The options of every benchmark that trains."""
    for option in (
        click.option("--crop", type=int, default=None, help="Pixels a side.  [default: 112; 48 without a GPU]"),
        click.option("--frames", type=int, default=None, help="Frames a clip.  [default: 16; 8 without a GPU]"),
        click.option(
            "--batch-size",
            type=click.IntRange(min=1),
            default=None,
            help="Samples; 3 clips each.  [default: 16; 8 without a GPU]",
        ),
        click.option("--width", type=float, default=None, help="Of all channels.  [default: 1; 0.25 without a GPU]"),
        click.option("--teacher", default=None, help="Backbone of the teacher."),
        click.option("--backbone", default="r3d", show_default=True, help="Backbone of the student."),
    ):
        command = option(command)
    return command


def measuring(command: Command) -> Command:
    """The options of every benchmark."""
    for option in (
        click.option("--json", "json_file", type=PATH, default=None, help="Write the result to this file as well."),
        click.option(
            "--min-seconds", type=click.FloatRange(min=0), default=1.0, show_default=True, help="Shortest turn."
        ),
        click.option("--rounds", type=click.IntRange(min=1), default=5, show_default=True, help="Turns of each case."),
    ):
        command = option(command)
    return command


def sized(
    backbone: str,
    teacher: str | None,
    width: float | None,
    batch_size: int | None,
    frames: int | None,
    crop: int | None,
) -> "tuple[StepNetworks, ClipShape]":
    """By default the published size where there is a GPU, and that of the demo where there is none."""
    from pclkd.benchmarks.clip_shape import ClipShape
    from pclkd.benchmarks.step_case import StepNetworks

    usual = (1.0, 16, 16, 112) if has_gpu() else (0.25, 8, 8, 48)
    networks = StepNetworks(backbone, teacher, usual[0] if width is None else width)
    return networks, ClipShape(batch_size or usual[1], usual[2] if frames is None else frames, crop, usual[3])


def has_gpu() -> bool:
    """Whether torch sees one."""
    import torch

    return torch.cuda.is_available()
