"""What a benchmark of many minutes has measured: on the disk row by row, and taken up again by the next attempt."""

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path

__all__ = ["KeptRows"]

Row = Mapping[str, float]


class KeptRows:
    """Rows of one benchmark; a machine that is taken away costs the row under way alone.

    Args:
        result: where the result will be written; the rows stand beside it until then. None keeps nothing.
        settings: what is measured, in plain values; rows of other settings are not taken up.

    Attributes:
        taken_up: rows of an earlier attempt that were used.
    """

    def __init__(self, result: Path | None, settings: Mapping[str, object]) -> None:
        self._file = None if result is None else result.with_name(f"{result.stem}.rows.jsonl")
        self._settings = json.loads(json.dumps(dict(settings)))
        self._rows: dict[str, Row] = {}
        self.taken_up = 0
        if self._file is None or not self._file.exists():
            return
        for line in self._file.read_text().splitlines():
            try:
                found = json.loads(line)
                if found["settings"] == self._settings:
                    self._rows[found["name"]] = {name: float(value) for name, value in found["values"].items()}
            except (ValueError, KeyError, TypeError, AttributeError):  # a line that was cut off
                continue

    def row(self, name: str, measure: Callable[[], Row]) -> Row:
        """The row of that name: of an earlier attempt, or measured now and on the disk before this returns."""
        if name in self._rows:
            self.taken_up += 1
            return self._rows[name]
        values = measure()
        if self._file is not None:
            with self._file.open("a") as out:
                out.write("\n" + json.dumps({"settings": self._settings, "name": name, "values": dict(values)}) + "\n")
                out.flush()
                os.fsync(out.fileno())
        return values

    def done(self) -> None:
        """Remove them: the result holds all."""
        if self._file is not None:
            self._file.unlink(missing_ok=True)
