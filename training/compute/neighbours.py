"""Other programs on this machine, and how threads wait for each other beside them.

OpenMP's threads spin while they wait for the last of them. Where a busy program keeps the last one waiting for a core,
the others burn theirs, and a step becomes several times slower. OMP_WAIT_POLICY=passive lets them sleep: much faster
there, about a tenth slower on an idle machine (`docs/training.md`). One thread has nobody to wait for.
"""

import functools
import os
import sys
import time

import psutil  # type: ignore[import-untyped]

from pclkd.sharding.common.processes import available_cpus

__all__ = ["Neighbours", "choose_waiting", "crowded", "describe_threads", "load_at_start"]

_VARIABLE = "OMP_WAIT_POLICY"
_LOOK_S = 0.2
_SPARE_CORES = 0.5  # every machine has something that runs now and then


def choose_waiting() -> None:
    """Set OMP_WAIT_POLICY by what other programs do now. Only before torch is loaded: OpenMP reads it then.

    What the user set stays. The choice is inherited by processes that are started later.
    """
    if _VARIABLE not in os.environ and "torch" not in sys.modules and crowded(load_at_start(), _planned_threads()):
        os.environ[_VARIABLE] = "passive"


@functools.cache
def load_at_start() -> float:
    """Processors' worth of work by other programs when this was first asked; it then looks for 0.2 s."""
    neighbours = Neighbours()
    time.sleep(_LOOK_S)
    return neighbours.busy_cores()


def describe_threads() -> dict[str, str | int | float]:
    """What a speed depends on, for env.json: OpenMP's threads, how they wait, and the load seen at the start."""
    import torch  # whoever chooses how to wait has not loaded it yet

    return {
        "omp_threads": torch.get_num_threads(),
        "omp_wait_policy": _waiting(),
        "others_busy_cores_at_start": round(load_at_start(), 2),
    }


class Neighbours:
    """What other programs take of the processors that this process may use, since it was made or asked last."""

    def __init__(self) -> None:
        self._warned = False
        self._before = _work()

    def busy_cores(self) -> float:
        """Processors' worth of work by others."""
        before, self._before = self._before, _work()
        clock, busy, own = (now - then for now, then in zip(self._before, before, strict=True))
        return max(0.0, busy - own) / clock if clock else 0.0

    def warning(self, threads: int) -> str | None:
        """A line where others leave too few processors for this process' threads, and those spin; once.

        Args:
            threads: OpenMP threads of this process.
        """
        cores = self.busy_cores()
        if self._warned or _waiting() == "passive" or not crowded(cores, threads):
            return None
        self._warned = True
        return (
            f"other programs keep {cores:.1f} of {available_cpus()} processors busy, and {threads} threads that wait "
            f"for each other suffer most: start again with {_VARIABLE}=passive or OMP_NUM_THREADS=1 (--resume goes on)"
        )


def crowded(others: float, threads: int) -> bool:
    """Whether processors' worth of work by others leaves too few for threads that wait for each other."""
    return threads > 1 and others + threads > available_cpus() + _SPARE_CORES


def _planned_threads() -> int:
    """OpenMP's threads as its environment variable tells, whose first number counts; all processors without it."""
    first = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0]
    return int(first) if first.isdecimal() else available_cpus()


def _waiting() -> str:
    """How this process' threads wait: "passive", "active", or "default": they spin for a while."""
    return os.environ.get(_VARIABLE, "default").lower()


def _work() -> tuple[float, float, float]:
    """Seconds by the clock, of work by anybody on our processors, and of our own with that of finished children."""
    ours = os.sched_getaffinity(0)
    rows = [row for number, row in enumerate(psutil.cpu_times(percpu=True)) if number in ours]
    return time.monotonic(), sum(row.user + row.nice + row.system for row in rows), sum(os.times()[:4])
