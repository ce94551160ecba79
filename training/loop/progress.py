"""What a person sees of a running job: a bar on a terminal, a line now and then elsewhere."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn
from rich.text import Text

from pclkd.pipeline.statistics import StageReport

__all__ = ["TrainingProgress", "say", "showing_line"]

_console = Console(stderr=True, highlight=False, soft_wrap=True)


def say(text: str) -> None:
    """Print one line beside the bar."""
    _console.print(text, markup=False)


@contextmanager
def showing_line(line_seconds: float = 15.0) -> Iterator[Callable[[str], None]]:
    """Give a function that shows a line in place of the one before; off a terminal now and then, where it changed."""
    if _console.is_terminal:
        with _console.status("") as status:
            yield lambda text: status.update(Text(text, no_wrap=True, overflow="ellipsis"))
        return
    said, said_at = "", time.monotonic()

    def show(text: str) -> None:
        nonlocal said, said_at
        if text != said and time.monotonic() - said_at >= line_seconds:
            said, said_at = text, time.monotonic()
            say(text)

    yield show


class TrainingProgress:
    """Epoch, step, clips/s, data wait and time left of one run.

    Args:
        name: the run's name.
        epochs: epochs in all.
        steps: steps an epoch.
        done: steps done by earlier sittings of a resumed run.
        line_seconds: seconds between lines off a terminal.
        quiet: says nothing (ranks other than the first).
    """

    def __init__(
        self, name: str, epochs: int, steps: int, done: int = 0, *, line_seconds: float = 15.0, quiet: bool = False
    ) -> None:
        self._name, self._epochs, self._steps = name, epochs, steps
        self._done_before, self._line_seconds, self._quiet = done, line_seconds, quiet
        self._began: float | None = None
        self._fresh = 0
        self._last_line = 0.0
        self._bar: Progress | None = None
        self._task = TaskID(0)

    @contextmanager
    def showing(self) -> Iterator["TrainingProgress"]:
        """The bar is on the screen within this block."""
        if self._quiet or not _console.is_terminal:
            yield self
            return
        columns = (TextColumn("{task.description}"), BarColumn(bar_width=None), TextColumn("{task.fields[detail]}"))
        with Progress(*columns, console=_console, expand=True) as self._bar:
            self._task = self._bar.add_task(
                self._name, total=self._epochs * self._steps, completed=self._done_before, detail=""
            )
            yield self
        self._bar = None

    def step(self, epoch: int, done: int, loader: StageReport, processes: int = 1, quarantined: int = 0) -> None:
        """Tell of a finished step.

        Args:
            epoch: the epoch under way, from 0.
            done: steps done in all, earlier sittings included.
            loader: what the loader did lately; where the trainer waits for it, its slowest stage is named.
            processes: processes of the job, each as fast as this one.
            quarantined: damaged samples that this process met in the epoch.
        """
        if self._quiet:
            return
        total = self._epochs * self._steps
        now = time.monotonic()
        # The clock starts with the first step: start-up is not paid again. Evaluations are, and so count.
        if self._began is None:
            self._began = now
        left = (now - self._began) / self._fresh * (total - done) if self._fresh else 0.0
        eta = str(timedelta(seconds=round(left))) if self._fresh else "-"
        self._fresh += 1
        detail = (
            f"epoch {epoch + 1}/{self._epochs} step {done - epoch * self._steps}/{self._steps} "
            f"{processes * loader.clips_per_s:.1f} clips/s data wait {loader.wait_pct:.0f}%"
            f"{'' if loader.starving == 'none' else f' (starved by {loader.starving})'} ETA {eta}"
            f"{f' quarantined={quarantined}' if quarantined else ''}"
        )
        if self._bar is not None:
            self._bar.update(self._task, completed=done, detail=detail)
        elif now - self._last_line >= self._line_seconds or done == total:
            self._last_line = now
            sys.stderr.write(f"{self._name}: {detail}\n")
            sys.stderr.flush()
