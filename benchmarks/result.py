"""What a benchmark hands over: figures with everything that is needed to compare them, as JSON and as a table."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from pclkd.benchmarks.rounds import summarise
from pclkd.pipeline.settings import Settings
from pclkd.sharding.atomic import write_text
from pclkd.sharding.errors import InputError
from pclkd.training.environment import describe_environment

__all__ = ["BenchmarkResult", "CaseFigures", "check_writable", "make_result", "show_result", "write_result"]


class CaseFigures(Settings):
    """One case."""

    rates: list[float] = Field(min_length=1)
    """One rate a round, in the result's unit."""
    median: float
    """Of the rates."""
    low: float
    """Lowest rate."""
    high: float
    """Highest rate."""
    spread_pct: float
    """Interquartile range, percent of the median."""
    ratio: float
    """Rate over that of the base case in the same round, median over the rounds."""
    extra: dict[str, float]
    """Further figures, with their units in their names."""


class BenchmarkResult(Settings):
    """A finished benchmark."""

    format_version: Literal[1] = 1
    """Of this file."""
    benchmark: str
    """load, step or train."""
    unit: str
    """Of all rates."""
    base: str
    """The case that ratios refer to."""
    environment: dict[str, str | int | float | None]
    """Hardware, versions, commit and date."""
    settings: dict[str, Any]
    """What was measured."""
    cases: dict[str, CaseFigures]
    """Figures by case."""
    notes: list[str]
    """What a reader has to know to compare the cases."""


def make_result(
    benchmark: str,
    unit: str,
    rates: Mapping[str, Sequence[float]],
    base: str,
    settings: Mapping[str, Any],
    *,
    extra: Mapping[str, Mapping[str, float]] | None = None,
    notes: Sequence[str] = (),
) -> BenchmarkResult:
    """Sum up rates and add hardware, versions and date."""
    return BenchmarkResult(
        benchmark=benchmark,
        unit=unit,
        base=base,
        environment=describe_environment(),
        settings=dict(settings),
        cases={
            name: CaseFigures(
                rates=list(rates[name]),
                median=summary.median,
                low=summary.low,
                high=summary.high,
                spread_pct=summary.spread_pct,
                ratio=summary.ratio,
                extra=dict((extra or {}).get(name, {})),
            )
            for name, summary in summarise(rates, base).items()
        },
        notes=list(notes),
    )


def show_result(result: BenchmarkResult) -> str:
    """The result as text: hardware, settings, a table, notes."""
    machine = result.environment
    hardware = [str(machine["gpu"] or "no GPU"), str(machine["cpu"]), f"{machine['cores']} cores"]
    versions = [f"{name} {machine[name]}" for name in ("torch", "dali", "pclkd")]
    rows = [["", result.unit, "low", "high", "spread", f"x {result.base}"]]
    for name, case in result.cases.items():
        numbers = [_number(value) for value in (case.median, case.low, case.high)]
        rows.append([name, *numbers, f"{case.spread_pct:.0f} %", f"{case.ratio:.2f}"])
    names = list(dict.fromkeys(name for case in result.cases.values() for name in case.extra))
    if names:
        more = [["", *names]]
        for name, case in result.cases.items():
            more.append([name, *(_number(case.extra[key]) if key in case.extra else "" for key in names)])
        tables = _columns(rows) + "\n\n" + _columns(more)
    else:
        tables = _columns(rows)
    rounds = len(next(iter(result.cases.values())).rates)
    return "\n".join(
        [
            f"{result.benchmark}: {', '.join(hardware)} ({', '.join(versions)}; {machine['date_utc']})",
            ", ".join(f"{name} {value}" for name, value in result.settings.items()),
            f"median of {rounds} interleaved round(s); spread is the interquartile range",
            "",
            tables,
            "",
            *(f"- {note}" for note in result.notes),
        ]
    ).rstrip()


def check_writable(path: Path | None) -> None:
    """Refuse a place for the JSON file that cannot be written, before minutes of measuring.

    Raises:
        InputError: its folder does not exist, or it is a folder itself.
    """
    if path is not None and (path.is_dir() or not path.parent.is_dir()):
        raise InputError(f"cannot write the result to {path}", remedy="give a file in a folder that exists")


def write_result(result: BenchmarkResult, path: Path) -> None:
    """Write the result as JSON, whole or not at all."""
    write_text(path, result.model_dump_json(indent=2) + "\n")


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def _columns(rows: Sequence[Sequence[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join(
            cell.ljust(width) if i == 0 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    ]
    return "\n".join(line.rstrip() for line in lines)
