"""Shards made by processes that may hang or crash: such a video is left out, and everything else goes on.

A decoder is C code that reads hostile input. So every shard is made in a process of its own that can be killed, and
tells which video it has in hand. When it is lost, a new process goes on with the same shard behind the last video that
was through. A video that a process was lost over gets one more chance, and is then quarantined.
"""

import resource
import signal
import tempfile
import time
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import partial
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

from pclkd.sharding.common import storage
from pclkd.sharding.common.console import Step
from pclkd.sharding.common.errors import InputError
from pclkd.sharding.common.processes import Worker
from pclkd.sharding.packing.jobs import Job
from pclkd.sharding.packing.scratch import scratch_folder
from pclkd.sharding.packing.shard import FileLostError, Outcome, Tell
from pclkd.sharding.packing.task import ShardResult
from pclkd.sharding.shards.manifest import Quarantined

__all__ = ["Limits", "supervise"]

_ATTEMPTS = 2  # at a video
_LONGEST_WAIT = 86_400.0  # seconds; the system counts them in an int of milliseconds
_DEATHS = 3  # of processes that no video is to blame for, per shard
# Signals that come from outside of the process, such as the kernel's when memory runs out.
_FROM_OUTSIDE = frozenset({signal.SIGKILL, signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGQUIT})


@dataclass(frozen=True)
class Limits:
    """What one video may take.

    Attributes:
        file_seconds: time without a further frame; a long video may take long, as long as it goes on.
        memory_bytes: that a process may add to what it has at its start.
    """

    file_seconds: float = 600.0
    memory_bytes: int = 2 << 30

    def __post_init__(self) -> None:
        if not self.file_seconds > 0:
            raise InputError(f"a time limit of {self.file_seconds} s a file", remedy="use more than 0")


@dataclass(eq=False)
class _Watch:
    """A process and the shard it has in hand."""

    worker: Worker
    position: int
    job: Job
    so_far: list[Outcome] = field(default_factory=list)
    video: int | None = None
    deadline: float | None = None
    attempts: dict[int, int] = field(default_factory=dict)
    deaths: int = 0
    stepped: int = 0
    retried: int = 0


def supervise(jobs: Sequence[Job], slots: int, limits: Limits, step: Step) -> list[ShardResult | None]:
    """Do all jobs in at most `slots` processes at a time; return the results in their order.

    Args:
        jobs: what to do; a check gives None for a shard that cannot stay.
        slots: processes.
        limits: what one video may take.
        step: called with the name of each video that is through, and whether it was left out.

    Raises:
        InputError: processes die over and over for a reason that lies in no video.
    """
    urls = [url for job in jobs for url in (job.task.out, *(video.path for video in job.task.videos))]
    # What comes from a store or goes there lies on this machine meanwhile.
    with scratch_folder() if any(map(storage.is_remote, urls)) else nullcontext() as scratch:
        return _Crew(jobs, limits, step, scratch).run(slots)


class _Crew:
    def __init__(self, jobs: Sequence[Job], limits: Limits, step: Step, scratch: str | None) -> None:
        self.jobs = jobs
        self.limits = limits
        self.step = step
        self.scratch = scratch
        self.results: dict[int, ShardResult | None] = {}
        self.watches: list[_Watch] = []
        # The largest first: then no process is left alone with one at the end.
        self.waiting = sorted(range(len(jobs)), key=lambda position: (_bytes(jobs[position]), -position))

    def run(self, slots: int) -> list[ShardResult | None]:
        try:
            for _ in range(min(slots, len(self.jobs))):
                self._begin(self._hire())
            while self.watches:
                self._wait()
        finally:
            for watch in self.watches:
                watch.worker.stop()
        return [self.results[position] for position in range(len(self.jobs))]

    def _hire(self) -> Worker:
        return Worker(partial(_work, memory_bytes=self.limits.memory_bytes, scratch=self.scratch))

    def _begin(self, worker: Worker) -> None:
        if not self.waiting:
            worker.stop()
            return
        position = self.waiting.pop()
        watch = _Watch(worker, position, self.jobs[position])
        self.watches.append(watch)
        worker.send((watch.job, watch.so_far))

    def _wait(self) -> None:
        deadlines = [watch.deadline for watch in self.watches if watch.deadline is not None]
        timeout = min(max(0.0, min(deadlines) - time.monotonic()), _LONGEST_WAIT) if deadlines else None
        ready = set(wait([watch.worker.connection for watch in self.watches], timeout))
        for watch in list(self.watches):
            if watch.worker.connection in ready:
                self._listen(watch)
            elif watch.deadline is not None and time.monotonic() >= watch.deadline:
                self._lost(watch, f"hung: no frame in {self.limits.file_seconds:g} s")

    def _listen(self, watch: _Watch) -> None:
        try:
            kind, value = watch.worker.connection.recv()
        except (EOFError, OSError):
            self._died(watch, watch.worker.exit_code())
            return
        if kind == "told":
            self._told(watch, *value)
        elif kind == "result":
            self._finished(watch, value)
        elif isinstance(value, FileLostError) and watch.video is not None:
            self._lost(watch, str(value))
        else:
            raise value

    def _told(self, watch: _Watch, kind: str, value: Any = None) -> None:
        if kind == "through":
            watch.video = watch.deadline = None
            self._through(watch, value)
            return
        if kind == "restart":
            watch.so_far.clear()
            return
        if kind == "begin":
            watch.video = value
        elif kind == "retry":
            watch.retried += 1
        watch.deadline = time.monotonic() + self.limits.file_seconds

    def _through(self, watch: _Watch, outcome: Outcome) -> None:
        watch.so_far.append(outcome)
        if len(watch.so_far) > watch.stepped:  # not told before a restart
            self._step(watch, outcome)

    def _step(self, watch: _Watch, outcome: Outcome) -> None:
        watch.stepped += 1
        if isinstance(outcome, Quarantined):
            self.step(outcome.video, True)
        else:
            self.step(outcome.video.shown)

    def _finished(self, watch: _Watch, result: ShardResult | None) -> None:
        self.watches.remove(watch)
        self.results[watch.position] = result
        if result is not None:
            result.retried += watch.retried
            if result.kept:
                outcomes: list[Outcome] = [*result.packed, *result.quarantined]
                for outcome in outcomes[watch.stepped :]:
                    self._step(watch, outcome)
        self._begin(watch.worker)

    def _died(self, watch: _Watch, code: int) -> None:
        how = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        if watch.video is not None and -code not in _FROM_OUTSIDE:
            self._lost(watch, f"crashed the decoder ({how})")
            return
        # Whoever killed it, the video is not to blame: it must not be left out for that.
        watch.deaths += 1
        if watch.deaths >= _DEATHS:
            remedy = "if memory ran out, use fewer --workers; run again to go on, finished shards are kept"
            raise InputError(
                f"worker processes died {watch.deaths} times ({how}) over {watch.job.task.name}", remedy=remedy
            )
        self._go_on(watch)

    def _lost(self, watch: _Watch, reason: str) -> None:
        assert watch.video is not None
        attempts = watch.attempts[watch.video] = watch.attempts.get(watch.video, 0) + 1
        if attempts >= _ATTEMPTS:
            self._through(watch, Quarantined(watch.job.task.videos[watch.video].shown, reason))
        else:
            watch.retried += 1
        self._go_on(watch)

    def _go_on(self, watch: _Watch) -> None:
        watch.worker.stop()
        watch.video = watch.deadline = None
        watch.worker = self._hire()
        watch.worker.send((watch.job, watch.so_far))


def _bytes(job: Job) -> int:
    return sum(int(identity.partition(":")[0]) for identity in job.task.identities if identity)


def _work(
    order: tuple[Job, list[Outcome]], tell: Tell, *, memory_bytes: int, scratch: str | None
) -> ShardResult | None:
    """Do one job in a worker process, whose temporary files all lie in `scratch`."""
    _limit_memory(memory_bytes)
    if scratch:
        tempfile.tempdir = scratch
    job, so_far = order
    return job.do(so_far, tell)


def _limit_memory(memory_bytes: int) -> None:
    """Limit the private memory of this process, once, so that an absurd file fails here and not the machine."""
    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    if soft == resource.RLIM_INFINITY:
        status = Path("/proc/self/status").read_text()
        now = next(int(line.split()[1]) << 10 for line in status.splitlines() if line.startswith("VmData"))
        resource.setrlimit(resource.RLIMIT_DATA, (now + memory_bytes, hard))
