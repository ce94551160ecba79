"""Commands side by side, each a process that starts when what it needs is done.

On N cores N networks of one thread each learn more than one network of N threads: nobody waits for anybody. So the
cores are shared out. Nothing is remembered between two calls: a job says itself whether it is done, and its command
goes on where it was stopped, so the same call continues whatever was killed.
"""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pclkd.sharding.common.processes import available_cpus, on_signals
from pclkd.training.loop.progress import say, showing_line

__all__ = ["Job", "Outcome", "StoppedError", "run_jobs", "train_kd"]

Outcome = Literal["done", "failed", "stopped", "skipped"]

_LOOK_S = 0.1
_CLAIM_S = 5.0  # between two looks at what another process works on
_TOLD_LINES = 5  # of the log of a job that failed
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
# The kernel's order to end a process with its parent outlives the exec.
_START = """\
import os, sys
from pclkd.sharding.common.processes import die_with
die_with(int(sys.argv[1]))
os.execv(sys.argv[2], sys.argv[2:])
"""


def train_kd(*arguments: str) -> tuple[str, ...]:
    """The command line of train-kd with these arguments."""
    return (sys.executable, "-P", "-m", "pclkd.training.cli", *arguments)


def _never() -> bool:
    return False


def _nobody() -> None:
    return None


def _mine() -> Callable[[], None]:
    return _nobody


@dataclass(frozen=True)
class Job:
    """One command of many.

    Attributes:
        name: unique; stem of its log.
        command: program and arguments, as `train_kd` gives them. SIGTERM asks it to save and to leave with exit code
            75, and the same command goes on there.
        needs: names of jobs, listed before this one, that must be done first.
        done: whether its result is there already, so that it need not run.
        claim: takes it, where several processes work on one plan: returns what gives it back, or None while another
            process has it. Whatever that one leaves is asked of `done` again.
    """

    name: str
    command: tuple[str, ...]
    needs: tuple[str, ...] = ()
    done: Callable[[], bool] = _never
    claim: Callable[[], Callable[[], None] | None] = _mine


class StoppedError(Exception):
    """The jobs were asked to stop and have; the same call goes on with them."""

    exit_code = os.EX_TEMPFAIL


def run_jobs(jobs: Sequence[Job], at_once: int, logs: Path) -> dict[str, Outcome]:
    """Run the jobs, those listed first as soon as they can be, `at_once` at a time.

    Each has its share of the cores, as OMP_NUM_THREADS unless that is set, and of the GPUs, in turn. What a job prints
    goes to `logs/NAME.log`; its warnings are told here too. One that fails is told with the end of its log; those that
    need it are skipped, the others go on. SIGINT, SIGTERM and SIGUSR1 reach the running ones as SIGTERM, twice as
    SIGKILL; all of them end with this process, however it ends.

    Args:
        jobs: in an order in which they could run one after another.
        at_once: processes at a time.
        logs: folder of the logs, made where it is missing.

    Returns:
        How each job ended, by name: "stopped" where it left with exit code 75 without being asked from here.

    Raises:
        StoppedError: a signal came; every job has ended.
    """
    known: set[str] = set()
    for job in jobs:
        if job.name in known or not known.issuperset(job.needs):
            raise ValueError(f"{job.name} is listed twice, or before what it needs: {', '.join(job.needs)}")
        known.add(job.name)
    logs.mkdir(parents=True, exist_ok=True)
    return _Execution(jobs, at_once, logs).run()


class _Execution:
    """The jobs that wait, those that run, and how the others ended."""

    def __init__(self, jobs: Sequence[Job], at_once: int, logs: Path) -> None:
        self._waiting = list(jobs)
        self._running: list[_Running] = []
        self._outcomes: dict[str, Outcome] = {}
        self._elsewhere: set[str] = set()
        self._next_claim = 0.0
        self._total, self._at_once, self._logs = len(jobs), at_once, logs

    def run(self) -> dict[str, Outcome]:
        told = 0
        signals: list[int] = []
        try:
            with on_signals(_SIGNALS, signals.append), showing_line() as show:
                while self._waiting or self._running:
                    if len(signals) > told:
                        told = len(signals)
                        self._stop(told)
                    self._collect(stopping=told > 0)
                    self._start()
                    show(self._progress())
                    time.sleep(_LOOK_S if self._waiting or self._running else 0)
        finally:
            for running in self._running:  # an error of this process' own
                running.end()
        if signals:
            raise StoppedError("stopped by a signal; the same command goes on where the runs are")
        return self._outcomes

    def _start(self) -> None:
        look = time.monotonic() >= self._next_claim
        if look:
            self._next_claim = time.monotonic() + _CLAIM_S
        for job in list(self._waiting):
            ended = {need: self._outcomes[need] for need in job.needs if need in self._outcomes}
            if lacking := [f"{need} {outcome}" for need, outcome in ended.items() if outcome != "done"]:
                say(f"{job.name}: skipped, since it needs {', '.join(lacking)}")
                self._settle(job, "skipped")
            elif len(ended) < len(job.needs) or len(self._running) == self._at_once:
                continue
            elif look or job.name not in self._elsewhere:
                self._begin(job)

    def _begin(self, job: Job) -> None:
        if job.done():
            self._settle(job, "done")
        elif (let_go := job.claim()) is None:
            self._elsewhere.add(job.name)
        elif job.done():  # by the process that has just let go of it
            let_go()
            self._settle(job, "done")
        else:
            self._waiting.remove(job)
            slot = min(set(range(self._at_once)) - {running.slot for running in self._running})
            log = self._logs / f"{job.name}.log"
            self._running.append(_Running(job, slot, let_go, log, self._environment(slot)))

    def _settle(self, job: Job, outcome: Outcome) -> None:
        self._waiting.remove(job)
        self._outcomes[job.name] = outcome

    def _environment(self, slot: int) -> dict[str, str]:
        if self._at_once == 1:
            return dict(os.environ)
        threads = max(1, available_cpus() // self._at_once)
        # The others are busy neighbours: threads that spin while they wait take what those need.
        shared = {"OMP_NUM_THREADS": str(threads), "OMP_WAIT_POLICY": "passive"}
        # As torchrun tells the processes of a node: each reads and decodes with its share of the cores, on its own GPU.
        return {**shared, "LOCAL_RANK": str(slot), "LOCAL_WORLD_SIZE": str(self._at_once), **os.environ}

    def _collect(self, *, stopping: bool) -> None:
        for running in list(self._running):
            code = running.process.poll()
            running.read(whole=code is not None)
            if code is None:
                continue
            running.end()
            self._running.remove(running)
            name = running.job.name
            self._outcomes[name] = (
                "done" if code == 0 else "stopped" if stopping or code == os.EX_TEMPFAIL else "failed"
            )
            if self._outcomes[name] == "failed":
                how = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
                say("\n    ".join([f"{name}: failed with {how}; the end of {running.log}:", *running.tail]))

    def _stop(self, signals: int) -> None:
        self._waiting.clear()
        for running in self._running:
            running.process.send_signal(signal.SIGTERM if signals == 1 else signal.SIGKILL)
        if signals == 1 and self._running:
            names = ", ".join(running.job.name for running in self._running)
            say(f"stopping; {names} may save before (once more does not wait for that)")

    def _progress(self) -> str:
        done = list(self._outcomes.values()).count("done")
        return f"{done}/{self._total} done; " + "; ".join(
            f"{running.job.name} {running.at}" for running in self._running
        )


class _Running:
    """A job's process, and what it says."""

    def __init__(self, job: Job, slot: int, let_go: Callable[[], None], log: Path, environment: dict[str, str]) -> None:
        self.job, self.slot, self.log, self._let_go = job, slot, log, let_go
        self.tail: list[str] = []
        self.at = ""
        with log.open("ab") as file:
            self._seen = file.tell()
            # A group of its own: Ctrl-C reaches the parent alone, which decides what it means.
            self.process = subprocess.Popen(
                [sys.executable, "-P", "-c", _START, str(os.getpid()), *job.command],
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                env=environment,
                process_group=0,
            )

    def read(self, *, whole: bool) -> None:
        """Take in what it wrote since, the last line only where that is whole; tell its warnings."""
        with self.log.open("rb") as file:
            file.seek(self._seen)
            new = file.read()
        if not whole:
            new = new[: new.rfind(b"\n") + 1]
        self._seen += len(new)
        for line in new.decode(errors="replace").splitlines():
            self.tail = [*self.tail, line][-_TOLD_LINES:]
            if line.startswith("warning:"):
                say(f"{self.job.name}: {line}")
            elif found := re.search(r"epoch \d+/\d+", line):
                self.at = found[0]

    def end(self) -> None:
        """It is over, or now is."""
        self.process.kill()
        self.process.wait()
        self._let_go()
