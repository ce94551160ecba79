"""How a command measures, and where its figures go."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pclkd.benchmarks.rounds import Work, interleave
from pclkd.sharding.errors import InputError

if TYPE_CHECKING:
    from pclkd.benchmarks.result import BenchmarkResult

__all__ = ["Session"]


@dataclass(frozen=True)
class Session:
    """What the options that all benchmarks share ask for.

    Attributes:
        rounds: turns of each case.
        min_seconds: shortest turn.
        quick: whether the command should also choose less work.
        json_file: where the figures are written, or None.
        chart_file: where a picture of them is written, or None.

    Raises:
        InputError: a place that cannot be written, told before minutes of measuring.
    """

    rounds: int
    min_seconds: float
    quick: bool = False
    json_file: Path | None = None
    chart_file: Path | None = None

    def __post_init__(self) -> None:
        for path in (self.json_file, self.chart_file):
            if path is not None and (path.is_dir() or not path.parent.is_dir()):
                raise InputError(f"cannot write the result to {path}", remedy="give a file in a folder that exists")

    def measure(self, cases: Mapping[str, Work], *, warmup: int = 1) -> dict[str, list[float]]:
        """Time the cases in turns, after `warmup` rounds; units a second by case, one for each round."""
        return interleave(cases, rounds=self.rounds, warmup=warmup, min_seconds=self.min_seconds, on_round=self.tell)

    def tell(self, number: int) -> None:
        """Say that a round is through."""
        click.echo(f"round {number}/{self.rounds}", err=True)

    def finish(self, result: "BenchmarkResult") -> None:
        """Print the result, and write it where that is asked for."""
        from pclkd.benchmarks.result import show_result, write_result

        click.echo(show_result(result))
        if self.json_file is not None:
            write_result(result, self.json_file)
        if self.chart_file is not None:
            from pclkd.benchmarks.chart import write_chart

            write_chart(result, self.chart_file)
