"""Findings, a row each: on the disk as soon as they are known, with their error where there is one."""

import os
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Literal

from pydantic import ConfigDict, Field, ValidationError

from pclkd.sharding.common.errors import InputError
from pclkd.sharding.common.settings import Settings

__all__ = ["ROWS_NAME", "LeftOutError", "Row", "Rows", "Value", "add_row", "read_rows"]

ROWS_NAME = "rows.jsonl"
Value = float | str | list[float] | None
Values = Mapping[str, Value]
_LONGEST = 300  # characters of an error


class LeftOutError(Exception):
    """What cannot be found out here; the message tells why."""


class Row(Settings):
    """One finding; numbers that are not finite are written as words, for JSON has none."""

    model_config = ConfigDict(ser_json_inf_nan="strings", allow_inf_nan=True)

    section: str
    """Whose."""
    name: str
    """Of the finding."""
    state: Literal["begun", "ok", "failed", "left out"]
    """begun: nobody knows yet. left out: it cannot be found out here."""
    seconds: float = 0.0
    """That it took."""
    values: dict[str, Value] = Field(default_factory=dict)
    """What was found, with units in the names."""
    error: str = ""
    """Why it failed or was left out."""

    @property
    def path(self) -> str:
        """`section/name`."""
        return f"{self.section}/{self.name}"


def add_row(file: Path, row: Row) -> None:
    """Append a row, for good."""
    with file.open("a") as out:
        out.write(row.model_dump_json() + "\n")
        out.flush()
        os.fsync(out.fileno())


def read_rows(file: Path) -> dict[str, Row]:
    """The latest word on every row, by its path, in the order in which they began."""
    rows: dict[str, Row] = {}
    for line in file.read_text().splitlines() if file.exists() else ():
        try:
            row = Row.model_validate_json(line)
        except ValidationError:  # a line that was cut off
            continue
        rows[row.path] = row
    return rows


class Rows:
    """The rows of a section.

    Args:
        file: that they are appended to; a row that is done there is not taken again.
        section: whose they are.
        until: on the clock of time.monotonic, which all processes share; no row is begun after that.
        gpu: whether there is one.
    """

    def __init__(self, file: Path, section: str, until: float, *, gpu: bool) -> None:
        self._file, self._section, self._until, self._gpu = file, section, until, gpu

    @property
    def left_s(self) -> float:
        """Seconds until no row is begun any more."""
        return self._until - time.monotonic()

    def found(self, path: str) -> dict[str, Value]:
        """What a row of any section found; nothing where there is none, or it failed."""
        row = read_rows(self._file).get(path)
        return row.values if row is not None and row.state == "ok" else {}

    def number(self, path: str, value: str) -> float | None:
        """A number of a row; None where there is none."""
        found = self.found(path).get(value)
        return found if isinstance(found, float) else None

    def take(self, name: str, work: Callable[[], Values], *, needs_gpu: bool = False) -> None:
        """Do the work and write what it found, or why it found nothing; nothing is raised.

        Args:
            name: of the row.
            work: what it gives is written.
            needs_gpu: whether without one the work is expected to refuse.
        """
        row = Row(section=self._section, name=name, state="begun")
        if row.path in read_rows(self._file):
            return
        if self.left_s <= 0:
            add_row(self._file, row.model_copy(update={"state": "left out", "error": "no time was left"}))
            return
        add_row(self._file, row)
        began = time.monotonic()
        try:
            changes: dict[str, object] = {"state": "ok", "values": dict(work())}
        except Exception as error:
            out = _is_left_out(error) or (needs_gpu and not self._gpu and isinstance(error, InputError))
            changes = {"state": "left out" if out else "failed", "error": _told(error)}
            if not out:
                traceback.print_exc(file=sys.stderr)
        changes["seconds"] = round(time.monotonic() - began, 3)
        add_row(self._file, Row.model_validate(row.model_dump() | changes))


def _is_left_out(error: Exception) -> bool:
    if isinstance(error, ModuleNotFoundError):
        return not (error.name or "").startswith("pclkd")
    return isinstance(error, LeftOutError)


def _told(error: Exception) -> str:
    """What happened, and the last place in this package where it did."""
    if isinstance(error, ModuleNotFoundError):
        return f"{error.name} is not installed"
    if isinstance(error, LeftOutError | InputError):
        return str(error)
    lines = [line for line in str(error).splitlines() if line.strip()] or [""]
    places = [frame for frame in traceback.extract_tb(error.__traceback__) if "pclkd" in frame.filename]
    where = f" ({Path(places[-1].filename).name}:{places[-1].lineno})" if places else ""
    return f"{type(error).__name__}: {lines[0].strip()[:_LONGEST]}{where}"
