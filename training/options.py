"""What several commands ask for: finite numbers, how many clips, which network of a file, and places to write to."""

import math
import re
from pathlib import Path
from typing import Any

import click

from pclkd.sharding.common.errors import InputError
from pclkd.sharding.common.files import check_place

__all__ = ["CLIPS", "KEY", "Finite", "check_file", "check_folder"]

CLIPS = click.IntRange(1, 1000)
"""Clips a video, as `evaluation.clips` bounds them: those of one video must fit into a batch."""
KEY = click.option("--key", default="", metavar="PREFIX", help="Which network of several in a file of weights.")
_URL = re.compile(r"[a-z][a-z0-9+.-]+:/")  # a path has lost the second slash


class Finite(click.FloatRange):
    """A number in a range, but neither infinity nor NaN, which no bound refuses: it compares with none."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """The number."""
        number = float(super().convert(value, param, ctx))
        if not math.isfinite(number):
            self.fail(f"{value} is not a finite number.", param, ctx)
        return number


def check_folder(folder: Path) -> None:
    """Refuse, before the work, a place where no folder can be: a file stands there or above it, or it is a URL.

    Raises:
        InputError: either.
    """
    _refuse_url(folder)
    check_place(folder)


def check_file(file: Path) -> None:
    """Refuse, before the work, a place where no file can be: a folder is there, no folder can be above, or it is a URL.

    Raises:
        InputError: one of these.
    """
    _refuse_url(file)
    check_place(file.parent)
    if file.is_dir():
        raise InputError(f"{file} is a folder", remedy="give the name of a file")


def _refuse_url(path: Path) -> None:
    if _URL.match(str(path)):
        raise InputError(
            f"{str(path).replace(':/', '://', 1)} is a URL, and results are written to a local folder",
            remedy="give one, and copy it from there",
        )
