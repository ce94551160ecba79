"""Progress for people: a bar on a terminal, a line every few seconds elsewhere, both on standard error."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

__all__ = ["show_progress"]

_SECONDS_BETWEEN_LINES = 5.0


@contextmanager
def show_progress(verb: str, total: int, unit: str) -> Iterator[Callable[[str], None]]:
    """Give a function to call with the name of each thing done."""
    if sys.stderr.isatty():
        with _bar(verb, total, unit) as step:
            yield step
        return
    started = said = time.monotonic()
    done = 0

    def step_line(_: str) -> None:
        nonlocal done, said
        done += 1
        now = time.monotonic()
        if now - said >= _SECONDS_BETWEEN_LINES:
            said = now
            rate = done / (now - started)
            left = (total - done) / rate
            print(f"{verb}: {done}/{total} {unit}, {rate:.1f} {unit}/s, {left:.0f} s left", file=sys.stderr, flush=True)

    yield step_line


@contextmanager
def _bar(verb: str, total: int, unit: str) -> Iterator[Callable[[str], None]]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn(verb),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn(unit),
        TimeRemainingColumn(),
        TextColumn("{task.fields[item]}", style="dim"),
    )
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task(verb, total=total, item="")
        yield lambda item: progress.update(task, advance=1, item=item)
