"""What the three command lines share: progress, tables, and wrong input that ends in one clear line and exit code 2."""

import errno
import os
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

import click

from pclkd.sharding.common.errors import InputError, visible

__all__ = ["CleanGroup", "Step", "duration", "show_progress", "text_columns"]


_SECONDS_BETWEEN_LINES = 5.0
_LONGEST_BETWEEN_LINES = 60.0
_WINDOW_SECONDS = 30.0


class Step(Protocol):
    """What is called with the name of each thing done, and whether it failed."""

    def __call__(self, name: str, failed: bool = False, /) -> None:
        """Tell that one more is through."""


@contextmanager
def show_progress(verb: str, total: int, unit: str) -> Iterator[Step]:
    """Give a function to call with the name of each thing done, from any thread; those that failed are counted apart.

    Args:
        verb: what is going on.
        total: how many things there are to do.
        unit: what they are.
    """
    if sys.stderr.isatty():
        with _bar(verb, total, unit) as step:
            yield step
    else:
        yield _Lines(verb, total, unit)


class _Rate:
    """Things a second over the last half minute: what a resumed run finds finished must not count for long."""

    def __init__(self) -> None:
        self.marks = deque([(time.monotonic(), 0)])

    def mark(self, done: int) -> float:
        now = time.monotonic()
        self.marks.append((now, done))
        while self.marks[0][0] < now - _WINDOW_SECONDS and len(self.marks) > 2:
            self.marks.popleft()
        since, before = self.marks[0]
        return (done - before) / max(now - since, 1e-6)


class _Lines:
    def __init__(self, verb: str, total: int, unit: str) -> None:
        self.verb = verb
        self.total = total
        self.unit = unit
        self.done = self.failed = 0
        self.rate = _Rate()
        self.started = self.said = time.monotonic()
        self.lock = threading.Lock()

    def __call__(self, _: str, failed: bool = False, /) -> None:
        with self.lock:
            self.done += 1
            self.failed += failed
            rate = self.rate.mark(self.done)
            now = time.monotonic()
            # The longer it runs, the rarer the lines: a log of a day need not have 17,000 of them.
            pause = _SECONDS_BETWEEN_LINES * max(1.0, min((now - self.started) / 100, _LONGEST_BETWEEN_LINES / 5))
            if now - self.said >= pause:
                self.said = now
                self._say(rate)

    def _say(self, rate: float) -> None:
        failed = f", {self.failed} quarantined" if self.failed else ""
        left = duration((self.total - self.done) / rate) if rate else "? s"
        print(
            f"{self.verb}: {self.done}/{self.total} {self.unit}, {rate:.1f} {self.unit}/s, {left} left{failed}",
            file=sys.stderr,
            flush=True,
        )


def duration(seconds: float) -> str:
    """Seconds as text: in whole seconds, minutes, or hours and minutes."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60:02d} min"


@contextmanager
def _bar(verb: str, total: int, unit: str) -> Iterator[Step]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn(verb),
        BarColumn(bar_width=None),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[failed]}", style="bold red"),
        TextColumn("{task.fields[item]}", style="dim", markup=False),
    )
    done = failures = 0
    rate = _Rate()
    lock = threading.Lock()
    with Progress(*columns, console=Console(stderr=True), expand=True) as progress:
        task = progress.add_task(verb, total=total, rate=unit, failed="", item="")

        def step(name: str, failed: bool = False, /) -> None:
            nonlocal done, failures
            with lock:
                done += 1
                failures += failed
                speed = f"{rate.mark(done):.1f} {unit}/s"
                told = f"{failures} quarantined" if failures else ""
                progress.update(task, advance=1, rate=speed, failed=told, item=_shortened(name))

        yield step


def _shortened(name: str) -> str:
    return name if len(name) <= 32 else f"...{name[-29:]}"


def text_columns(rows: Sequence[Sequence[str]]) -> str:
    """Rows of cells as text: the first column to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join(
            cell.ljust(width) if i == 0 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    ]
    return "\n".join(line.rstrip() for line in lines)


_AWAY = "bring the file system back and give the command again"
# Conditions of the machine that the user can mend, with the remedy for each.
_MENDABLE = {
    errno.ENOSPC: "free some space or choose another folder; nothing unfinished was left under a final name",
    errno.EDQUOT: "free some of your quota or choose another folder",
    errno.EFBIG: "raise the limit on file sizes (ulimit -f) or choose another folder",
    errno.EACCES: "check the permissions or choose another folder",
    errno.EPERM: "check the permissions or choose another folder",
    errno.EROFS: "choose a folder on a writable file system",
    errno.EEXIST: "a file stands where a folder is to be; choose another folder",
    errno.ENOTDIR: "a file stands where a folder is to be; choose another folder",
    errno.EISDIR: "a folder stands where a file is to be; choose another name",
    errno.ENOENT: "it went away meanwhile, or cannot be made there; choose another place",
    errno.ESTALE: _AWAY,
    errno.ENOTCONN: _AWAY,
    errno.ETIMEDOUT: _AWAY,
    errno.EHOSTDOWN: _AWAY,
    errno.ENAMETOOLONG: "give a shorter path",
    errno.ELOOP: "give a path whose links do not lead in a circle",
}


class CleanGroup(click.Group):
    """A click group whose commands end in one line, not in a traceback, when the input is wrong."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the chosen command; InputError and mendable OSErrors become exit code 2."""
        try:
            return super().invoke(ctx)
        except click.UsageError as error:
            # It names what was typed, whatever that is; the help of a command called without anything stays as it is.
            if error.message.isprintable() or type(error).show is not click.UsageError.show:
                raise
            raise click.UsageError(visible(error.format_message()), error.ctx) from None
        except InputError as error:
            _tell(f"error: {error}", error)
        except OSError as error:
            if error.errno not in _MENDABLE:
                raise
            where = f" ({visible(str(error.filename))})" if error.filename else ""
            _tell(f"error: {error.strerror}{where} - {_MENDABLE[error.errno]}", error)
        raise click.exceptions.Exit(2)


def _tell(message: str, error: Exception) -> None:
    """Tell it: of a job in one process what all of them refuse, in each what it may have met alone, as a full disk."""
    rank = os.environ.get("RANK", "0")
    if rank == "0" or os.environ.get("WORLD_SIZE", "1") == "1":
        click.echo(message, err=True)
    elif isinstance(error, OSError) or getattr(error, "met_at_work", False):
        click.echo(f"rank {visible(rank)}: {message}", err=True)
