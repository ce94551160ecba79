"""What more processes gain: training end to end, loader and step together, by jobs of 1 to N processes.

On GPUs, N processes have N of them; their bound is N times the rate of one. On a CPU they share the cores that one
process alone has too, so nothing can be gained but what that one wastes; their bound is N times the rate of one process
that has 1/N of the cores and no neighbours.
"""

import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median

from pclkd.benchmarks.measuring.clip_shape import ClipShape
from pclkd.benchmarks.measuring.places import absolute
from pclkd.benchmarks.measuring.result import BenchmarkResult, make_result
from pclkd.benchmarks.measuring.session import Rates, Session
from pclkd.benchmarks.processes.job import JobFailedError, Told, TrainingJob
from pclkd.benchmarks.processes.probe import JobPlan
from pclkd.benchmarks.steps.case import StepNetworks
from pclkd.pipeline.world import World
from pclkd.sharding.common.errors import InputError
from pclkd.sharding.shards.index import ShardIndex

__all__ = ["ProcessScaleBenchmark", "usual_processes"]

_MOST = 8  # processes by default: each holds a network, a loader and its libraries in memory
_NOTES = (
    "samples/s of the whole job, every pass from an idle loader to the last update; the batch of a process is the same "
    "in all jobs; jobs are started by torchrun, stay alive and take turns",
    "efficiency_pct: on GPUs of N times one process; on a CPU, whose cores are the same for all jobs, of one process "
    "with all of them",
    "mib_all_reduced, kib_all_gathered, kib_broadcast: S of a step, counted as torch exchanges it; a ring sends "
    "2 (N - 1) / N x S of what is all-reduced from each process",
    "the step is that of the trainer, not compiled: compiling for every job would take longer than measuring",
    "reads, kib_read: range reads and their bytes, a sample of 3 clips",
)


@dataclass(frozen=True)
class ProcessScaleBenchmark:
    """What is measured.

    Attributes:
        data: the shard set.
        split: whose train part is used.
        networks: of the step; PCL+KD where they have a teacher.
        shape: of a process' batch.
        steps: of a pass.
        processes: sizes of the jobs; 1 is added, because all are compared with it.
    """

    data: str | Path
    split: int
    networks: StepNetworks
    shape: ClipShape
    steps: int
    processes: Sequence[int]

    def run(self, session: Session) -> BenchmarkResult:
        """Measure.

        Raises:
            InputError: a shard set, split, crop or backbone that cannot be used, or more processes than there are GPUs
                or cores.
            JobFailedError: one process alone does not run.
        """
        index = ShardIndex.open(self.data)
        shape = self.shape.fitted(index)
        index.split_samples(self.split, "train")
        gpus, cores = _gpus(), World().cores
        counts = sorted({1, *self.processes})
        _refuse_many(counts, gpus, cores)
        plan = JobPlan(
            absolute(self.data),
            self.split,
            self.networks.backbone,
            self.networks.teacher,
            self.networks.width,
            shape.batch_size,
            shape.frames,
            shape.side,
            self.steps,
        )
        # By name: processes, cores of the job, and threads of each process.
        jobs = {_name(n): (n, 0, max(1, cores // n)) for n in counts}
        if not gpus:
            jobs |= {_share(n): (1, cores // n, cores // n) for n in counts if n > 1}
        missing = {} if max(counts) > 1 else {"2_processes": f"there is {'1 GPU' if gpus else '1 core'}"}
        with ExitStack() as stack:
            started: dict[str, TrainingJob] = {}
            for name, (processes, limit, threads) in jobs.items():
                scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="pclkd-job-")))
                job = TrainingJob(replace(plan, cores=limit), processes, threads, scratch)
                started[name] = stack.enter_context(job)
            said, missing = _ready(started, missing)
            cases = {name: _Passes(started[name]) for name in said}

            def told(rates: Rates) -> BenchmarkResult:
                bounds = _bounds(rates, counts, gpus)
                for alone in [name for name in rates if name not in map(_name, counts)]:
                    del rates[alone]
                rates |= bounds
                extra = {
                    _name(n): {
                        "efficiency_pct": 100 * _over(rates[_name(n)], rates["1_process"]) / (n if gpus else 1),
                        "threads_per_process": float(jobs[_name(n)][2]),
                        **_exchanged(said[_name(n)]),
                        **cases[_name(n)].loading(),
                    }
                    for n in counts
                    if _name(n) in rates
                }
                return make_result(
                    "scale",
                    "samples/s",
                    rates,
                    "1_process",
                    {
                        "backbone": self.networks.backbone,
                        "teacher": self.networks.teacher,
                        "width": self.networks.width,
                        **shape.as_dict(),
                        "steps_per_pass": self.steps,
                        "precision": said["1_process"][0]["precision"],
                        "device": said["1_process"][0]["device"],
                        "data_fingerprint": index.fingerprint[:16],
                    },
                    extra=extra,
                    missing=missing,
                    notes=_NOTES,
                    bounds={_name(n): [f"{n}_times_one"] for n in counts if f"{n}_times_one" in rates},
                )

            return session.measure({name: case.work for name, case in cases.items()}, told)


def usual_processes() -> list[int]:
    """1, 2, 4, 8: as many as there are GPUs, or cores where there are none."""
    most = min(_gpus() or World().cores, _MOST)
    return sorted({most, *(2**power for power in range(most.bit_length()))})


class _Passes:
    """A job's passes, and what its loaders did in them."""

    def __init__(self, job: TrainingJob) -> None:
        self._job = job
        self._done: list[Told] = []

    def work(self) -> float:
        told = self._job.run_pass()
        self._done += told
        return float(sum(loader["samples"] for loader in told))

    def loading(self) -> dict[str, float]:
        samples = sum(loader["samples"] for loader in self._done)
        return {
            "reads": sum(loader["reads"] for loader in self._done) / samples,
            "kib_read": sum(loader["bytes_read"] for loader in self._done) / samples / 2**10,
        }


def _ready(jobs: Mapping[str, TrainingJob], missing: dict[str, str]) -> tuple[dict[str, list[Told]], dict[str, str]]:
    said = {}
    for name, job in jobs.items():
        try:
            said[name] = job.ready()
        except JobFailedError as error:
            if name == "1_process":
                raise
            missing = {**missing, name: str(error)}
    return said, missing


def _bounds(rates: Mapping[str, list[float]], counts: Sequence[int], gpus: int) -> dict[str, list[float]]:
    """N times one process, by case; on a CPU one with its share of the cores."""
    found = {}
    for n in counts:
        one = "1_process" if gpus else _share(n)
        if n > 1 and one in rates:
            found[f"{n}_times_one"] = [n * rate for rate in rates[one]]
    return found


def _exchanged(said: Sequence[Told]) -> dict[str, float]:
    """Bytes of a step; all ranks exchange the same."""
    first = said[0]
    return {
        "mib_all_reduced": first.get("allreduce", 0) / 2**20,
        "kib_all_gathered": first.get("allgather", 0) / 2**10,
        "kib_broadcast": first.get("broadcast", 0) / 2**10,
    }


def _over(rates: Sequence[float], base: Sequence[float]) -> float:
    return median(rate / one for rate, one in zip(rates, base, strict=True))


def _name(processes: int) -> str:
    return "1_process" if processes == 1 else f"{processes}_processes"


def _share(processes: int) -> str:
    return f"one_of_{processes}"


def _gpus() -> int:
    import torch

    return torch.cuda.device_count() if torch.cuda.is_available() else 0


def _refuse_many(counts: Sequence[int], gpus: int, cores: int) -> None:
    most = gpus or cores
    if counts[-1] > most:
        kind = "GPU(s)" if gpus else "core(s)"
        raise InputError(f"{counts[-1]} processes, and this machine has {most} {kind}", remedy=f"use {most} or fewer")
