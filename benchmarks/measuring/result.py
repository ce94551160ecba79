"""What a benchmark hands over: figures with everything that is needed to compare them, as JSON and as a table."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError

from pclkd.benchmarks.measuring.bounds import nearest_bounds
from pclkd.benchmarks.measuring.rounds import summarise
from pclkd.sharding.common.console import text_columns
from pclkd.sharding.common.errors import InputError
from pclkd.sharding.common.files import write_text
from pclkd.sharding.common.settings import Settings
from pclkd.training.runs.environment import describe_environment

__all__ = [
    "BenchmarkResult",
    "Figure",
    "make_result",
    "read_result",
    "show_result",
    "write_result",
]


class Figure(Settings):
    """One case."""

    name: str
    """Of the case."""
    unit: str
    """Of median, low, high and values."""
    median: float
    """Over the rounds."""
    low: float
    """Lower end of the median's interval."""
    high: float
    """Upper end of the median's interval."""
    confidence_pct: float
    """How sure that interval is; at least 95 where there are 6 rounds or more."""
    rounds: int = Field(ge=1)
    """Measured rounds."""
    spread_pct: float
    """Interquartile range, percent of the median."""
    ratio: float
    """Value over that of the base case in the same round, median over the rounds."""
    ratio_low: float
    """Lower end of that median's interval."""
    ratio_high: float
    """Upper end of that median's interval."""
    values: list[float] = Field(min_length=1)
    """One value a round."""
    bound: str | None = None
    """The nearest of the cases that this one cannot be faster than; None where nothing bounds it."""
    of_bound_pct: float | None = None
    """Value as percent of that bound's in the same round, median over the rounds."""
    extra: dict[str, float]
    """Further figures, with their units in their names."""


class BenchmarkResult(Settings):
    """A finished benchmark."""

    format_version: Literal[2] = 2
    """Of this file."""
    benchmark: str
    """The command, or what its form of another kind is called: all, load, peers, scale, shard, step, step-peers, ..."""
    base: str
    """The case that ratios refer to."""
    results: list[Figure] = Field(min_length=1)
    """Figures, in the order in which they are told."""
    bounding: list[str] = Field(default_factory=list)
    """Cases that bound others: limits rather than competitors."""
    missing: dict[str, str]
    """Cases that could not be measured here, and why."""
    env: dict[str, str | int | float | None]
    """Hardware, versions, commit and date."""
    settings: dict[str, Any]
    """What was measured."""
    notes: list[str]
    """What a reader has to know to compare the cases."""

    def __getitem__(self, name: str) -> Figure:
        """The figure of that case.

        Raises:
            KeyError: there is none.
        """
        for figure in self.results:
            if figure.name == name:
                return figure
        raise KeyError(name)


def make_result(
    benchmark: str,
    unit: str | Mapping[str, str],
    values: Mapping[str, Sequence[float]],
    base: str,
    settings: Mapping[str, Any],
    *,
    bounds: Mapping[str, Sequence[str]] | None = None,
    extra: Mapping[str, Mapping[str, float]] | None = None,
    missing: Mapping[str, str] | None = None,
    notes: Sequence[str] = (),
) -> BenchmarkResult:
    """Sum up the rounds and add hardware, versions and date.

    Args:
        benchmark: the command.
        unit: of all values, or of each case's.
        values: one value a round, by case.
        base: the case that ratios refer to.
        settings: what was measured.
        bounds: by case the names of those, in the same unit, that it cannot be faster than.
        extra: further figures of some cases.
        missing: cases that could not be measured, and why.
        notes: what a reader has to know.

    Raises:
        ValueError: a base or a bound that is no case, or a bound in another unit.
    """
    limits = bounds or {}
    nearest = nearest_bounds(values, limits, unit)
    return BenchmarkResult(
        benchmark=benchmark,
        base=base,
        results=[
            Figure(
                name=name,
                unit=unit if isinstance(unit, str) else unit[name],
                median=summary.median,
                low=summary.interval.low,
                high=summary.interval.high,
                confidence_pct=summary.interval.confidence_pct,
                rounds=len(values[name]),
                spread_pct=summary.spread_pct,
                ratio=summary.ratio,
                ratio_low=summary.ratio_interval.low,
                ratio_high=summary.ratio_interval.high,
                values=list(values[name]),
                bound=nearest[name].name if name in nearest else None,
                of_bound_pct=nearest[name].reached_pct if name in nearest else None,
                extra=dict((extra or {}).get(name, {})),
            )
            for name, summary in summarise(values, base).items()
        ],
        bounding=[name for name in values if any(name in names for names in limits.values())],
        missing=dict(missing or {}),
        env=describe_environment(),
        settings=dict(settings),
        notes=list(notes),
    )


def show_result(result: BenchmarkResult) -> str:
    """The result as text: hardware, settings, a table, what is missing, notes."""
    machine, figures = result.env, result.results
    hardware = [str(machine["gpu"] or "no GPU"), str(machine["cpu"]), f"{machine['cores']} cores"]
    versions = [f"{name} {machine[name]}" for name in ("torch", "dali", "pclkd")]
    units = {figure.unit for figure in figures}
    rows = [["", *(["unit"] if len(units) > 1 else []), *(units if len(units) == 1 else ["median"])]]
    bounded = any(figure.bound for figure in figures)
    rows[0] += ["low", "high", "spread", f"x {result.base}", *(["of bound", "bound"] if bounded else [])]
    for figure in figures:
        numbers = [_number(value) for value in (figure.median, figure.low, figure.high)]
        unit = [figure.unit] if len(units) > 1 else []
        rows.append([figure.name, *unit, *numbers, f"{figure.spread_pct:.0f} %", f"{figure.ratio:.3g}"])
        if bounded:
            rows[-1] += ["" if figure.of_bound_pct is None else f"{figure.of_bound_pct:.1f} %", figure.bound or ""]
    tables = text_columns(rows)
    names = list(dict.fromkeys(name for figure in figures for name in figure.extra))
    if names:
        more = [["", *names]]
        for figure in figures:
            if figure.extra:
                numbers = [_number(figure.extra[name]) if name in figure.extra else "" for name in names]
                more.append([figure.name, *numbers])
        tables += "\n\n" + text_columns(more)
    first = figures[0]
    return "\n".join(
        [
            f"{result.benchmark}: {', '.join(hardware)} ({', '.join(versions)}; {machine['date_utc']})",
            ", ".join(f"{name} {value}" for name, value in result.settings.items()),
            f"median of {first.rounds} interleaved round(s); low and high: its {first.confidence_pct:.0f} % interval; "
            "spread: the interquartile range",
            "",
            tables,
            "",
            *(f"- missing: {name} ({reason})" for name, reason in result.missing.items()),
            *(f"- {note}" for note in result.notes),
        ]
    ).rstrip()


def write_result(result: BenchmarkResult, path: Path) -> None:
    """Write the result as JSON, whole or not at all."""
    write_text(path, result.model_dump_json(indent=2) + "\n")


def read_result(path: Path) -> BenchmarkResult:
    """Read a result that `write_result` wrote.

    Raises:
        InputError: no such file, or not a result of this format.
    """
    try:
        return BenchmarkResult.model_validate_json(path.read_bytes())
    except OSError as error:
        raise InputError(f"cannot read {path} ({error.strerror})", remedy="give a file written with --json") from None
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the file"
        raise InputError(
            f"{path} is no benchmark result of this version ({where}: {first['msg'].lower()})",
            remedy="give a file written with --json, or measure again",
        ) from None


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
