"""Options that several commands share."""

import dataclasses
import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pclkd.benchmarks.measuring.session import Session
from pclkd.training.options import Finite

if TYPE_CHECKING:
    from pclkd.benchmarks.loading.case import RecipeName
    from pclkd.benchmarks.measuring.clip_shape import ClipShape
    from pclkd.benchmarks.steps.case import StepNetworks

__all__ = ["COUNTS", "PATH", "Loaded", "Trained", "has_gpu", "loading", "measuring", "training"]

PATH = click.Path(path_type=Path)


class _Counts(click.ParamType[tuple[int, ...]]):
    """Whole numbers from 1 on, separated by commas."""

    name = "integers"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, ...]:
        """The numbers."""
        try:
            found = tuple(int(part) for part in str(value).split(","))
        except ValueError:
            found = ()
        if not found or min(found) < 1:
            self.fail(f"{value!r} is not a list of numbers from 1 on, such as 1,2,4", param, ctx)
        return found


COUNTS = _Counts()
Command = Callable[..., None]
_MOST_ROUNDS = 20  # more than that narrow the interval of the median hardly any further


@dataclass(frozen=True)
class Trained:
    """What a benchmark that trains is told about its networks and batches; None is what is usual on this machine.

    Attributes:
        backbone: of the student.
        teacher: backbone of the teacher.
        width: factor on all channels.
        batch_size: samples.
        frames: of a clip.
        crop: height and width of a clip, in pixels.
    """

    backbone: str
    teacher: str | None
    width: float | None
    batch_size: int | None
    frames: int | None
    crop: int | None

    def networks(self, teacher: str | None) -> "StepNetworks":
        """By default of the published size where there is a GPU, and of the demo's where there is none."""
        from pclkd.benchmarks.steps.case import StepNetworks, StepOptions

        width = (1.0 if has_gpu() else 0.25) if self.width is None else self.width
        # Channels-last is what the trainer takes on a GPU, and the demo everywhere.
        return StepNetworks(self.backbone, teacher, width, StepOptions(layout="channels-last"))

    def shape(self) -> "ClipShape":
        """By default the published one where there is a GPU, and the demo's where there is none."""
        from pclkd.benchmarks.measuring.clip_shape import ClipShape

        batch_size, frames, crop = (16, 16, 112) if has_gpu() else (8, 8, 48)
        return ClipShape(self.batch_size or batch_size, frames if self.frames is None else self.frames, self.crop, crop)


def training(command: Command) -> Command:
    """The options of every benchmark that trains; the command gets them as one `trained`."""

    @click.option("--backbone", default="r3d", show_default=True, help="Backbone of the student.")
    @click.option("--teacher", default=None, help="Backbone of the teacher.")
    @click.option(
        "--width",
        type=Finite(max=4),
        default=None,
        help="Of all channels.  [default: 1; 0.25 without a GPU]",
    )
    @click.option(
        "--batch-size",
        type=click.IntRange(min=1),
        default=None,
        help="Samples; 3 clips each.  [default: 16; 8 without a GPU]",
    )
    @click.option("--frames", type=int, default=None, help="Frames a clip.  [default: 16; 8 without a GPU]")
    @click.option("--crop", type=int, default=None, help="Pixels a side.  [default: 112; 48 without a GPU]")
    @functools.wraps(command)
    def run(**options: Any) -> None:
        told = {field.name: options.pop(field.name) for field in dataclasses.fields(Trained)}
        command(trained=Trained(**told), **options)

    return run


@dataclass(frozen=True)
class Loaded:
    """What a benchmark of loaders is told about its clips.

    Attributes:
        data: the shard set.
        recipe: what is done with a clip.
        batch_size: samples.
        frames: of a clip.
        crop: height and width of a clip, in pixels; None is usual.
        samples: of a pass; None is usual.
        workers: threads or processes; 0 is one a core.
    """

    data: str
    recipe: "RecipeName"
    batch_size: int
    frames: int
    crop: int | None
    samples: int | None
    workers: int

    def shape(self) -> "ClipShape":
        """Of a batch."""
        from pclkd.benchmarks.measuring.clip_shape import ClipShape

        return ClipShape(self.batch_size, self.frames, self.crop)

    def samples_at_most(self, *, quick: bool) -> int:
        """Of a pass."""
        return self.samples or (16 if quick else 64)


def loading(command: Command) -> Command:
    """The options of every benchmark of loaders; the command gets them as one `loaded`."""

    @click.option("--data", required=True, help="Shard set of shard-ucf101 pack, a folder or a URL.")
    @click.option(
        "--recipe", type=click.Choice(["plain", "full"]), default="plain", show_default=True, help="Work to do."
    )
    @click.option(
        "--batch-size",
        type=click.IntRange(min=1),
        default=16,
        show_default=True,
        help="Samples; 3 clips each.",
    )
    @click.option("--frames", type=int, default=16, show_default=True, help="Frames a clip.")
    @click.option("--crop", type=int, default=None, help="Pixels a side.  [default: 112, or what fits]")
    @click.option(
        "--samples", type=click.IntRange(min=1), default=None, help="A pass, at most.  [default: 64; quick: 16]"
    )
    @click.option("--workers", type=click.IntRange(min=0), default=0, help="Threads or processes.  [one a core]")
    @functools.wraps(command)
    def run(**options: Any) -> None:
        told = {field.name: options.pop(field.name) for field in dataclasses.fields(Loaded)}
        command(loaded=Loaded(**told), **options)

    return run


def measuring(command: Command) -> Command:
    """The options of every benchmark; the command gets them as one `session`."""

    @click.option("--rounds", type=click.IntRange(min=1), default=None, help="Turns of each case.  [default: 6]")
    @click.option("--min-seconds", type=Finite(min=0), default=None, help="Shortest turn.  [default: 1]")
    @click.option(
        "--minutes",
        type=Finite(min=0, min_open=True),
        default=None,
        help="Measure for so long: 3 to 20 turns, unless --rounds sets the most.",
    )
    @click.option("--quick", is_flag=True, help="A rough answer in less than a minute: 3 short turns, less work.")
    @click.option("--json", "json_file", type=PATH, default=None, help="Write the figures to this file as well.")
    @click.option("--chart", "chart_file", type=PATH, default=None, help="Draw them, as PNG.")
    @functools.wraps(command)
    def run(
        *,
        rounds: int | None,
        min_seconds: float | None,
        minutes: float | None,
        quick: bool,
        json_file: Path | None,
        chart_file: Path | None,
        **options: Any,
    ) -> None:
        usual = (3, 0.2) if quick else (6, 1.0)
        if minutes is not None:
            usual = (_MOST_ROUNDS, usual[1])
        session = Session(
            usual[0] if rounds is None else rounds,
            usual[1] if min_seconds is None else min_seconds,
            quick,
            json_file,
            chart_file,
            None if minutes is None else 60 * minutes,
        )
        command(session=session, **options)

    return run


def has_gpu() -> bool:
    """Whether torch sees one."""
    import torch

    return torch.cuda.is_available()
