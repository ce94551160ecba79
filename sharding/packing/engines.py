"""Where shards are made: in processes of this machine, or on a Ray cluster. The bytes are the same."""

import importlib.util
import logging
import os
import pickle
import socket
import sys
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass, replace
from typing import Any, Literal, Protocol

from pclkd.sharding.common import storage
from pclkd.sharding.common.console import Step
from pclkd.sharding.common.errors import InputError
from pclkd.sharding.common.processes import available_cpus
from pclkd.sharding.packing.jobs import Job
from pclkd.sharding.packing.supervise import Limits, supervise
from pclkd.sharding.packing.task import ShardResult

__all__ = ["Engine", "EngineName", "check_engine", "open_engine", "open_ray"]


_OBJECT_STORE_BYTES = 100 << 20  # Ray's smallest is 75 MB; only what is known of finished shards goes through it
_RETRIES = 3  # by Ray when a worker or a node dies, and as often again by us


class _Cluster:
    def __init__(self, ray: Any, limits: Limits) -> None:
        self.ray = ray
        self.limits = limits

    def run(self, jobs: Sequence[Job], step: Step) -> list[ShardResult | None]:
        do = self.ray.remote(num_cpus=1, max_retries=_RETRIES)(_do)
        pending = {do.remote(job, self.limits): position for position, job in enumerate(jobs)}
        failures = [0] * len(jobs)
        results: dict[int, ShardResult | None] = {}
        try:
            while pending:
                for reference in self.ray.wait(list(pending), num_returns=1)[0]:
                    position = pending.pop(reference)
                    try:
                        result, steps = pickle.loads(self.ray.get(reference))
                    except self.ray.exceptions.RayTaskError as error:
                        raise error.cause if isinstance(error.cause, (InputError, OSError)) else error from None
                    except self.ray.exceptions.RayError as error:
                        failures[position] += 1
                        if failures[position] > _RETRIES:
                            raise InputError(
                                f"the cluster lost {jobs[position].task.name} {failures[position]} times ({error})",
                                remedy="check its nodes; run again to go on, finished shards are kept",
                            ) from error
                        pending[do.remote(jobs[position], self.limits)] = position
                        continue
                    results[position] = result
                    for name, failed in steps:
                        step(name, failed)
        finally:
            for reference in pending:
                self.ray.cancel(reference, force=True)
        return [results[position] for position in range(len(jobs))]


@contextmanager
def open_ray(address: str | None, workers: int, limits: Limits) -> Iterator[_Cluster]:
    """Join the cluster at `address` or `RAY_ADDRESS`, else start one of `workers` processors on this machine.

    Raises:
        InputError: there is no such cluster.
    """
    import ray

    ours = not ray.is_initialized()
    if ours:
        joined = address or os.environ.get("RAY_ADDRESS")
        own = {"num_cpus": workers, "include_dashboard": False, "object_store_memory": _OBJECT_STORE_BYTES}
        try:
            _check_address(joined or "")
            ray.init(**({"address": joined} if joined else own), logging_level=logging.ERROR, log_to_driver=False)
        except (OSError, ValueError, RuntimeError) as error:
            remedy = "start it with 'ray start --head' and give the address that it tells"
            raise InputError(f"no Ray cluster at {joined or 'this machine'} ({error})", remedy=remedy) from error
    try:
        # Ray prints its warnings to standard output, where a summary as JSON may go.
        with redirect_stdout(sys.stderr):
            yield _Cluster(ray, limits)
    finally:
        if ours:
            ray.shutdown()


def _check_address(address: str) -> None:
    """Refuse an address where nothing listens: Ray would try for minutes."""
    host, _, port = address.rpartition("://")[2].rpartition(":")
    if port.isdecimal():
        socket.create_connection((host.strip("[]"), int(port)), timeout=10).close()


def _do(job: Job, limits: Limits) -> bytes:
    """Do one job on a node; give the result and the steps, pickled so that they do not stay in Ray's object store."""
    task = job.task
    sources = [video.path for video, told in zip(task.videos, task.identities, strict=True) if told]
    _check_sight(task.out, job.mark, sources)
    # A node that was given up may still be at it: it must not write into the same unfinished file.
    job = replace(job, task=replace(task, run=f"{task.run}-{uuid.uuid4().hex[:8]}"))
    steps: list[tuple[str, bool]] = []
    (result,) = supervise([job], 1, limits, lambda name, failed=False: steps.append((name, failed)))
    return pickle.dumps((result, steps))


def _check_sight(out: str, mark: str, sources: list[str]) -> None:
    remedy = "use a folder that all nodes share, or s3:// or gs:// URLs"
    if not storage.is_remote(out) and not (storage.local_path(out) / mark).is_file():
        raise InputError(f"node {socket.gethostname()} does not see the folder {out}", remedy=remedy)
    local = [path for path in sources if not storage.is_remote(path)]
    if local and not any(storage.local_path(path).exists() for path in local):
        raise InputError(f"node {socket.gethostname()} does not see the video {local[0]}", remedy=remedy)


EngineName = Literal["local", "ray"]


class Engine(Protocol):
    """Does jobs, many at a time."""

    def run(self, jobs: Sequence[Job], step: Step) -> list[ShardResult | None]:
        """Do all jobs; return the results in their order, see `supervise`."""


@dataclass(frozen=True)
class _Local:
    workers: int
    limits: Limits

    def run(self, jobs: Sequence[Job], step: Step) -> list[ShardResult | None]:
        return supervise(jobs, self.workers, self.limits, step)


def check_engine(name: EngineName, ray_address: str | None) -> None:
    """Check a choice before anything is done.

    Raises:
        InputError: an unknown name, an address for no cluster, or Ray is not installed.
    """
    if name not in ("local", "ray"):
        raise InputError(f"unknown engine {name!r}", remedy="use local or ray")
    if name == "local" and ray_address is not None:
        raise InputError(f"--ray-address {ray_address} without --engine ray", remedy="say --engine ray")
    if name == "ray" and importlib.util.find_spec("ray") is None:
        raise InputError("the engine 'ray' is not installed", remedy="run: pip install 'pclkd[ray]'")


@contextmanager
def open_engine(name: EngineName, *, workers: int | None, limits: Limits, ray_address: str | None) -> Iterator[Engine]:
    """Give the engine of that name.

    Args:
        name: "local" or "ray".
        workers: processes on this machine; as many as there are processors when None. A cluster that is joined uses
            all of its processors.
        limits: what one video may take.
        ray_address: of a cluster to join; without one, and without `RAY_ADDRESS`, Ray starts on this machine.

    Raises:
        InputError: the cluster cannot be reached.
    """
    if name == "local":
        yield _Local(workers or available_cpus(), limits)
    else:
        with open_ray(ray_address, workers or available_cpus(), limits) as engine:
            yield engine
