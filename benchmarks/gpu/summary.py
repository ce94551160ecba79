"""All rows on a page, and which aims were met."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from pclkd.benchmarks.gpu.rows import Row
from pclkd.sharding.common.console import text_columns

__all__ = ["show_rows"]

_WIDEST = 150  # characters of what a row found


@dataclass(frozen=True)
class _Aim:
    """A figure that is to be reached.

    Attributes:
        what: it is, with its unit.
        rows: whose paths begin with one of these; the one with the highest samples_per_s or frames_per_s counts.
        value: its name.
        least: whether it is to be at least, or at most, the limit.
        limit: see there.
    """

    what: str
    rows: tuple[str, ...]
    value: str
    least: bool
    limit: float

    def told(self, rows: Mapping[str, Row]) -> list[str]:
        """As cells."""
        found = [
            row.values
            for path, row in rows.items()
            if path.startswith(self.rows) and row.state == "ok" and isinstance(row.values.get(self.value), float)
        ]
        best = max(found, key=_speed, default={}).get(self.value)
        sign = ">=" if self.least else "<="
        if not isinstance(best, float):
            return [self.what, f"{sign} {self.limit:g}", "", "not measured"]
        met = best >= self.limit if self.least else best <= self.limit
        return [self.what, f"{sign} {self.limit:g}", f"{best:.4g}", "met" if met else "missed"]


_STEPS = ("step/", "untuned/", "compiled/")
_AIMS = (
    _Aim("loader, frames/s, all augmentation", ("loading/full_",), "frames_per_s", least=True, limit=40_000),
    _Aim("step PCL+KD, samples/s", _STEPS, "samples_per_s", least=True, limit=600),
    _Aim("step PCL+KD, % of the measured matrix rate", _STEPS, "mfu_pct", least=True, limit=33),
    _Aim(
        "teacher, overhead over its share", ("step/teacher_cost",), "overhead_over_flop_share", least=False, limit=1.1
    ),
    _Aim("end to end, % of the smaller side", ("training/end_to_end",), "of_smaller_side_pct", least=True, limit=95),
    _Aim("data wait, %", ("training/end_to_end",), "data_wait_pct", least=False, limit=2),
    _Aim("100 UCF101 epochs of PCL+KD, minutes", ("training/end_to_end",), "minutes_100_ucf101_epochs", False, 40),
)
_NO_STEPS = ("step/eager_without_teacher", "step/teacher_forward")


def show_rows(rows: Mapping[str, Row], *, dry: bool) -> str:
    """As text."""
    counted: dict[Literal["begun", "ok", "failed", "left out"], int] = {"ok": 0, "failed": 0, "left out": 0, "begun": 0}
    cells = [["row", "", "s", "found"]]
    for path, row in rows.items():
        counted[row.state] += 1
        cells.append([path, row.state, f"{row.seconds:.1f}", _found(row)])
    # What was found is prose: to the left, however long.
    table = text_columns([line[:3] for line in cells]).splitlines()
    lines = [f"{line:<{max(map(len, table))}}  {cell[3]}".rstrip() for line, cell in zip(table, cells, strict=True)]
    machine = rows["health/environment"].values if "health/environment" in rows else {}
    about = ", ".join(str(machine[name]) for name in ("gpu", "cpu", "torch", "date_utc") if machine.get(name))
    told = {path: row for path, row in rows.items() if path not in _NO_STEPS}
    aims = [["aim", "", "reached", ""], *(aim.told(told) for aim in _AIMS)]
    return "\n".join(
        [
            f"gpu: {about}",
            ", ".join(f"{number} {state}" for state, number in counted.items() if number),
            "",
            "a dry run: sizes are tiny, figures mean nothing" if dry else text_columns(aims),
            "",
            *lines,
        ]
    )


def _speed(values: Mapping[str, object]) -> float:
    return max((float(str(values[name])) for name in ("samples_per_s", "frames_per_s") if name in values), default=0.0)


def _found(row: Row) -> str:
    if row.error:
        return row.error[:_WIDEST]
    parts = [
        f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}"
        for name, value in row.values.items()
        if value is not None and not isinstance(value, list)
    ]
    return ", ".join(parts)[:_WIDEST]
