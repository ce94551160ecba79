"""Options of the command line: of the data set, the frames and the engine, and types that several commands share."""

from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pclkd.sharding.datasets.layout import describe_layouts, layout_names
from pclkd.sharding.datasets.names import is_number

if TYPE_CHECKING:
    from pclkd.sharding.packing.deal import PackPart

__all__ = ["FOLDER", "PART", "SIZE", "dataset_options", "engine_options", "frame_options"]


_LIST = "list"


class _LayoutName(click.ParamType[str]):
    """The name of a layout, as known when it is asked for: --import may have registered some; or `list`."""

    name = "layout"

    def get_metavar(self, param: click.Parameter, ctx: click.Context) -> str | None:
        """List the names for the help."""
        return click.Choice(("auto", _LIST, *layout_names())).get_metavar(param, ctx)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Refuse names that are not known; tell all, and end, where that is asked for."""
        if value == _LIST and ctx:
            click.echo(describe_layouts())
            ctx.exit()
        return click.Choice(("auto", *layout_names())).convert(value, param, ctx)


def dataset_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give `command` the options, and call it with `source`: keyword arguments of `plan_packing`."""

    @wraps(command)
    def collect(*args: Any, splits: str | None, dataset: str, test_share: float, **rest: Any) -> None:
        command(*args, source={"splits": splits, "dataset": dataset, "test_share": test_share}, **rest)

    for option in (
        click.option(
            "--test-share",
            type=float,
            default=0.0,
            help="Share of the groups or videos to hold out as the test part, where no list tells one.  [default: 0]",
        ),
        click.option(
            "--dataset",
            type=_LayoutName(),
            default="auto",
            show_default=True,
            is_eager=True,  # `list` needs neither VIDEOS nor OUT
            help="Layout of the lists; auto tells what it found, list what each layout expects.",
        ),
        click.option("--splits", type=str, help="Folder of the lists, or a table (.csv); path or URL."),
    ):
        collect = option(collect)
    return collect


_SALVAGE_FRAMES = 64
_CHROMA = {"420": "4:2:0", "444": "4:4:4"}


class _StoredSize(click.ParamType[tuple[int, int, int]]):
    """HEIGHTxWIDTH, or the short side alone, in pixels."""

    name = "HxW|N"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, int, int]:
        """Take "128x171" or "256" apart: height, width, short side."""
        if isinstance(value, tuple):
            return value
        if is_number(str(value)):
            return 0, 0, int(value)
        height, _, width = str(value).partition("x")
        if not (is_number(height) and is_number(width)):
            self.fail(f"{value!r} is neither HEIGHTxWIDTH, such as 128x171, nor a short side, such as 128", param, ctx)
        return int(height), int(width), 0


def frame_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give `command` the options, and call it with `frames`: the fields of `PackSettings` that they set."""

    @wraps(command)
    def collect(
        *args: Any,
        size: tuple[int, int, int],
        fps: float,
        max_frames: int,
        quality: int,
        chroma: str,
        salvage: bool,
        salvage_frames: int | None,
        **rest: Any,
    ) -> None:
        if salvage_frames is not None and not salvage:
            raise click.UsageError("--salvage-frames is for --salvage: say both.")
        frames = {
            **dict(zip(("height", "width", "short_side"), size, strict=True)),
            "fps": fps,
            "max_frames": max_frames,
            "quality": quality,
            "chroma": _CHROMA[chroma],
            "salvage": (salvage_frames or _SALVAGE_FRAMES) if salvage else 0,
        }
        command(*args, frames=frames, **rest)

    for option in (
        click.option(
            "--salvage-frames",
            type=click.IntRange(min=1),
            help=f"Frames that such a run must have.  [default: {_SALVAGE_FRAMES}]",
        ),
        click.option("--salvage", is_flag=True, help="Keep the longest sound run of a damaged video."),
        click.option(
            "--chroma",
            type=click.Choice(list(_CHROMA)),
            default="420",
            show_default=True,
            help="Colour at half the pixels each way, or at all.",
        ),
        click.option("--quality", type=int, default=90, show_default=True, help="JPEG quality, 1 to 95."),
        click.option("--max-frames", type=int, default=0, help="Keep the first so many frames.  [default: all]"),
        click.option(
            "--fps",
            type=float,
            default=0.0,
            help="Frames a second to keep, dropped or repeated.  [default: as they are]",
        ),
        click.option(
            "--size",
            type=_StoredSize(),
            default="128x171",
            show_default=True,
            help="Stored frame size in pixels, or of the short side alone, the aspect kept.",
        ),
    ):
        collect = option(collect)
    return collect


def engine_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give `command` the options, and call it with `work`: keyword arguments of `pack_videos`."""

    @wraps(command)
    def collect(
        *args: Any, workers: int | None, engine: str, ray_address: str | None, file_timeout: float, **rest: Any
    ) -> None:
        from pclkd.sharding.packing.supervise import Limits

        limits = Limits(file_seconds=file_timeout)
        work = {"workers": workers, "engine": engine, "ray_address": ray_address, "limits": limits}
        command(*args, work=work, **rest)

    for option in (
        click.option(
            "--file-timeout",
            type=float,
            default=600.0,
            show_default=True,
            help="Seconds without a further frame after which a video is given up; inf: never.",
        ),
        click.option("--ray-address", help="Ray cluster to join.  [default: $RAY_ADDRESS, else one on this machine]"),
        click.option(
            "--engine",
            type=click.Choice(["local", "ray"]),
            default="local",
            show_default=True,
            help="Processes of this machine, or a Ray cluster.",
        ),
        click.option("--workers", type=click.IntRange(min=1), help="Processes.  [default: one a processor]"),
    ):
        collect = option(collect)
    return collect


FOLDER = click.Path(path_type=Path)


class _Part(click.ParamType["PackPart"]):
    """I/N, counted from 1."""

    name = "I/N"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> "PackPart":
        """Take "3/8" apart."""
        from pclkd.sharding.packing.deal import PackPart

        if isinstance(value, PackPart):
            return value
        number, _, of = str(value).partition("/")
        if not (is_number(number) and is_number(of)):
            self.fail(f"{value!r} is not I/N, such as 3/8", param, ctx)
        return PackPart(int(number), int(of))


PART = _Part()


class _Size(click.ParamType[tuple[int, int]]):
    """HEIGHTxWIDTH in pixels."""

    name = "HxW"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, int]:
        """Take "128x171" apart."""
        if isinstance(value, tuple):
            return value
        height, _, width = str(value).partition("x")
        if not (is_number(height) and is_number(width)):
            self.fail(f"{value!r} is not HEIGHTxWIDTH, such as 128x171", param, ctx)
        return int(height), int(width)


SIZE = _Size()
