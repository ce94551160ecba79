"""Option types that several commands share."""

from pathlib import Path
from typing import Any

import click

__all__ = ["FOLDER", "SIZE"]

FOLDER = click.Path(path_type=Path)


class _Size(click.ParamType[tuple[int, int]]):
    """HEIGHTxWIDTH in pixels."""

    name = "HxW"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, int]:
        """Take "128x171" apart."""
        if isinstance(value, tuple):
            return value
        height, _, width = str(value).partition("x")
        if not (height.isdecimal() and width.isdecimal()):
            self.fail(f"{value!r} is not HEIGHTxWIDTH, such as 128x171", param, ctx)
        return int(height), int(width)


SIZE = _Size()
