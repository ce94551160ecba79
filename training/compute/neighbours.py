"""Other programs on this machine, and how threads wait for each other beside them.

OpenMP's threads spin while they wait for the last of them. Beside a busy program the last one is late, the others take
the time it needs, and a step becomes several times slower. OMP_WAIT_POLICY=passive lets them sleep: much faster
there, about a tenth slower on an idle machine (`docs/training.md`). One thread has nobody to wait for.
"""

import os
import time
from pathlib import Path

from pclkd.sharding.common.processes import available_cpus

__all__ = ["Neighbours", "choose_waiting", "waiting"]

_VARIABLE = "OMP_WAIT_POLICY"
_STAT = Path("/proc/stat")
_BUSY_CORES = 0.5
_LOOK_S = 0.2


def choose_waiting() -> None:
    """Set OMP_WAIT_POLICY by what other programs do now. Only before torch is loaded: OpenMP reads it then.

    What the user set stays. The answer is inherited by processes that are started later.
    """
    if _VARIABLE in os.environ or os.environ.get("OMP_NUM_THREADS") == "1" or available_cpus() == 1:
        return
    neighbours = Neighbours()
    time.sleep(_LOOK_S)
    if neighbours.busy_cores() > _BUSY_CORES:
        os.environ[_VARIABLE] = "passive"


def waiting() -> str:
    """How this process' OpenMP threads wait: "passive", "active", or "default" (they spin for a while)."""
    return os.environ.get(_VARIABLE, "default").lower()


class Neighbours:
    """What other programs take of the processors that this process may use, since it was made or asked last."""

    def __init__(self) -> None:
        self._warned = False
        self._before = self._now()

    def busy_cores(self) -> float:
        """Processors' worth of work by others, 0 where the system does not tell."""
        before, self._before = self._before, self._now()
        clock, busy, own = (now - then for now, then in zip(self._before, before, strict=True))
        return max(0.0, (busy - own) / clock) if busy and clock else 0.0

    def warning(self, threads: int) -> str | None:
        """A line where others are busy and this process' threads spin; once.

        Args:
            threads: OpenMP threads of this process.
        """
        cores = self.busy_cores()
        if self._warned or threads == 1 or waiting() == "passive" or cores <= _BUSY_CORES:
            return None
        self._warned = True
        return (
            f"other programs keep {cores:.1f} of {available_cpus()} processors busy, and {threads} threads that wait "
            f"for each other suffer most: start again with {_VARIABLE}=passive or OMP_NUM_THREADS=1 (--resume goes on)"
        )

    @staticmethod
    def _now() -> tuple[float, float, float]:
        """Seconds by the clock, of work on our processors, and of our own work with that of finished children."""
        times = os.times()
        try:
            rows = [line.split() for line in _STAT.read_text().splitlines() if line.startswith("cpu")]
        except OSError:
            rows = []
        ours = {f"cpu{number}" for number in os.sched_getaffinity(0)}
        # user, nice, system; then idle and waiting for disks, then interrupts
        ticks = sum(int(row[1]) + int(row[2]) + int(row[3]) for row in rows if row[0] in ours)
        return time.monotonic(), ticks / os.sysconf("SC_CLK_TCK"), sum(times[:4])
