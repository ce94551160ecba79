"""Where shards are made: in processes of this machine, or on a Ray cluster. The bytes are the same."""

import importlib.util
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal, Protocol

from pclkd.sharding.common.errors import InputError
from pclkd.sharding.common.processes import available_cpus
from pclkd.sharding.common.progress import Step
from pclkd.sharding.packing.supervise import Job, Limits, supervise
from pclkd.sharding.packing.task import ShardResult

__all__ = ["Engine", "EngineName", "check_engine", "open_engine"]

EngineName = Literal["local", "ray"]


class Engine(Protocol):
    """Does jobs, many at a time."""

    def run(self, jobs: Sequence[Job], step: Step) -> list[ShardResult | None]:
        """Do all jobs; return the results in their order, see `supervise`."""


@dataclass(frozen=True)
class _Local:
    workers: int
    limits: Limits
    held: tuple[int, ...]

    def run(self, jobs: Sequence[Job], step: Step) -> list[ShardResult | None]:
        return supervise(jobs, self.workers, self.limits, step, self.held)


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
def open_engine(
    name: EngineName, *, workers: int | None, limits: Limits, ray_address: str | None, held: tuple[int, ...] = ()
) -> Iterator[Engine]:
    """Give the engine of that name.

    Args:
        name: "local" or "ray".
        workers: processes on this machine; as many as there are processors when None. A cluster that is joined uses
            all of its processors.
        limits: what one video may take.
        ray_address: of a cluster to join; without one, and without `RAY_ADDRESS`, Ray starts on this machine.
        held: file descriptors that local workers hold as long as they live.

    Raises:
        InputError: the cluster cannot be reached.
    """
    if name == "local":
        yield _Local(workers or available_cpus(), limits, held)
    else:
        from pclkd.sharding.packing.ray_engine import open_ray

        with open_ray(ray_address, workers or available_cpus(), limits) as engine:
            yield engine
