"""What a command does before and after it measures."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from pclkd.benchmarks.result import BenchmarkResult

__all__ = ["finish", "ready", "teller"]


def ready(json_file: Path | None) -> None:
    """Refuse a place for the result that cannot be written, before anything is measured."""
    from pclkd.benchmarks.result import check_writable

    check_writable(json_file)


def teller(rounds: int) -> Callable[[int], None]:
    """Tells each round that is through."""
    return lambda number: click.echo(f"round {number}/{rounds}", err=True)


def finish(result: "BenchmarkResult", json_file: Path | None) -> None:
    """Print the result, and write it where a file is asked for."""
    from pclkd.benchmarks.result import show_result, write_result

    click.echo(show_result(result))
    if json_file is not None:
        write_result(result, json_file)
