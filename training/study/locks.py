"""Who works on what, told by files in a folder that all hosts share."""

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from filelock import LeaseCompromise, SoftFileLease, Timeout

from pclkd.training.loop.progress import say

__all__ = ["Locks"]


class Locks:
    """Leases of a folder: a holder renews its file; who has seen it unchanged for long enough follows it.

    A holder whose process is gone is followed at once on its own machine. No clocks are compared. A holder that was
    suspended for longer than that is not stopped when it wakes: it is told, and so may be working beside its follower.

    Args:
        folder: where they lie; made when the first is taken.
        patience_s: seconds without a sign of life after which a holder counts as dead; the same for all processes.
    """

    def __init__(self, folder: Path, *, patience_s: float = 90.0) -> None:
        self._folder, self._patience_s = folder, patience_s
        self._leases: dict[str, SoftFileLease] = {}  # each remembers since when its file has not changed

    def claim(self, name: str) -> Callable[[], None] | None:
        """Take a lock: returns what gives it back, or None while anybody has it."""
        self._folder.mkdir(parents=True, exist_ok=True)
        if name not in self._leases:
            self._leases[name] = SoftFileLease(
                self._file(name),
                lease_duration=self._patience_s,
                on_compromise=partial(_tell_lost, name),
                thread_local=False,
            )
        lease = self._leases[name]
        if lease.is_locked:  # it would count how often
            return None
        try:
            lease.acquire(timeout=0)
        except Timeout:
            return None
        return lease.release

    def holder(self, name: str) -> str | None:
        """Who took a lock and when it was last renewed, in words; None where there is none."""
        file = self._file(name)
        try:
            said = dict(line.split("=", 1) for line in file.read_text().splitlines() if "=" in line)
            silent = time.time() - file.stat().st_mtime
        except OSError:
            return None
        return f"{said.get('host')}, process {said.get('pid')}, seen {silent:.0f} s ago"

    def _file(self, name: str) -> Path:
        return self._folder / f"{name}.lock"


def _tell_lost(name: str, how: LeaseCompromise) -> None:
    say(f"warning: {name}: its lock was lost ({how.reason}); another process may be training it too")
