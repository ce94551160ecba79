"""How a command measures, and where its figures go."""

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pclkd.benchmarks.measuring.rounds import Work, interleave, round_numbers
from pclkd.sharding.common.errors import InputError

if TYPE_CHECKING:
    from pclkd.benchmarks.measuring.result import BenchmarkResult

__all__ = ["Rates", "Session", "check_places"]

Rates = dict[str, list[float]]


def check_places(*paths: Path | None) -> None:
    """Refuse files that cannot be written, before minutes of measuring.

    Raises:
        InputError: one is a folder, its folder does not exist, or two are the same.
    """
    given = [path for path in paths if path is not None]
    for path in given:
        if path.is_dir() or not path.parent.is_dir():
            raise InputError(f"cannot write the result to {path}", remedy="give a file in a folder that exists")
    if len({path.resolve() for path in given}) < len(given):
        raise InputError(f"--json and --chart would both be {given[0]}", remedy="give two files")


@dataclass(frozen=True)
class Session:
    """What the options that all benchmarks share ask for.

    Attributes:
        rounds: turns of each case; at most, where there is a budget.
        min_seconds: shortest turn.
        quick: whether the command should also choose less work.
        json_file: where the figures are written, or None.
        chart_file: where a picture of them is written, or None.
        budget_s: seconds for the whole command, from when the session was made. Rounds end when another one would not
            fit any more, but not before the third. None: no limit.
        started: when the session was made, on the clock of time.perf_counter.

    Raises:
        InputError: a place that cannot be written, told before minutes of measuring.
    """

    rounds: int
    min_seconds: float
    quick: bool = False
    json_file: Path | None = None
    chart_file: Path | None = None
    budget_s: float | None = None
    started: float = field(default_factory=time.perf_counter, repr=False, compare=False)

    def __post_init__(self) -> None:
        check_places(self.json_file, self.chart_file)

    @property
    def left_s(self) -> float | None:
        """Seconds left of the budget, 0 where it is used up, or None where there is none."""
        return None if self.budget_s is None else max(0.0, self.budget_s - (time.perf_counter() - self.started))

    def share(self, part: float) -> "Session":
        """A session that begins now and has that part of the time that is left, where there is a limit."""
        left = self.left_s
        return replace(self, budget_s=None if left is None else part * left, started=time.perf_counter())

    def measure(
        self, cases: Mapping[str, Work], told: Callable[[Rates], "BenchmarkResult"], *, warmup: int = 1
    ) -> "BenchmarkResult":
        """Time the cases in turns; the result is written after every round, so that who is killed leaves what it has.

        Args:
            cases: work by name.
            told: makes the result of the rates so far, units a second by case, one for each round; the rates are its.
            warmup: rounds before those that count.
        """

        def on_round(number: int, rates: Rates) -> None:
            self.tell(number)
            if self.json_file is not None and self.budget_s is not None:
                from pclkd.benchmarks.measuring.result import write_result

                write_result(told({name: list(values) for name, values in rates.items()}), self.json_file)

        rates = interleave(
            cases,
            rounds=self.rounds,
            warmup=warmup,
            min_seconds=self.min_seconds,
            budget_s=self.left_s,
            on_round=on_round,
        )
        return told(rates)

    def turns(self) -> Iterator[int]:
        """Numbers of the rounds, from 0 on, for what cannot be timed by `measure`; tells each that is through."""
        for number in round_numbers(self.rounds, budget_s=self.left_s):
            yield number
            self.tell(number + 1)

    def tell(self, number: int) -> None:
        """Say that a round is through."""
        click.echo(f"round {number}/{self.rounds}" if self.budget_s is None else f"round {number}", err=True)

    def finish(self, result: "BenchmarkResult") -> None:
        """Print the result, and write it where that is asked for."""
        from pclkd.benchmarks.measuring.result import show_result, write_result

        click.echo(show_result(result))
        if self.json_file is not None:
            write_result(result, self.json_file)
        if self.chart_file is not None:
            from pclkd.benchmarks.measuring.charts import tells_growth, write_chart, write_growth_chart

            (write_growth_chart if tells_growth(result) else write_chart)(result, self.chart_file)
