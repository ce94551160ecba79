"""The options of `shard-ucf101 pack` that say how frames are stored."""

from collections.abc import Callable
from functools import wraps
from typing import Any

import click

__all__ = ["frame_options"]

_CHROMA = {"420": "4:2:0", "444": "4:4:4"}


class _StoredSize(click.ParamType[tuple[int, int, int]]):
    """HEIGHTxWIDTH, or the short side alone, in pixels."""

    name = "HxW|N"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, int, int]:
        """Take "128x171" or "256" apart: height, width, short side."""
        if isinstance(value, tuple):
            return value
        if str(value).isdecimal():
            return 0, 0, int(value)
        height, _, width = str(value).partition("x")
        if not (height.isdecimal() and width.isdecimal()):
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
        **rest: Any,
    ) -> None:
        frames = {
            **dict(zip(("height", "width", "short_side"), size, strict=True)),
            "fps": fps,
            "max_frames": max_frames,
            "quality": quality,
            "chroma": _CHROMA[chroma],
        }
        command(*args, frames=frames, **rest)

    for option in (
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
