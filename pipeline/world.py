"""Which process this is, worked out once."""

import os
from dataclasses import dataclass

from pclkd.sharding.common.errors import InputError

__all__ = ["World"]

_REMEDY = "start the job with torchrun, or unset it"


@dataclass(frozen=True)
class World:
    """The processes that share one training job.

    Attributes:
        rank: number of this process, 0 <= rank < size.
        size: number of processes on all nodes.
        local_rank: number of this process on its node; the GPU it uses.
        local_size: number of processes on this node; they share its cores.
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    local_size: int = 1

    def __post_init__(self) -> None:
        if not 0 <= self.rank < self.size:
            raise ValueError(f"rank {self.rank} is not within the {self.size} processes of the job")

    @classmethod
    def from_environment(cls) -> "World":
        """Read RANK, WORLD_SIZE, LOCAL_RANK and LOCAL_WORLD_SIZE as torchrun sets them; one process without them.

        Raises:
            InputError: one of them is no number, or there is no such process in the job.
        """
        rank, size = _number("RANK", 0), _number("WORLD_SIZE", 1)
        if not 0 <= rank < size:
            raise InputError(
                f"RANK={rank} in the environment is not within the {size} processes that WORLD_SIZE tells",
                remedy=_REMEDY,
            )
        return cls(rank, size, local_rank=_number("LOCAL_RANK", 0), local_size=_number("LOCAL_WORLD_SIZE", 1))

    @property
    def cores(self) -> int:
        """CPU cores for each process of this node, at least one."""
        return max(1, len(os.sched_getaffinity(0)) // self.local_size)

    @property
    def is_first(self) -> bool:
        """Whether this process speaks, writes and evaluates for all."""
        return self.rank == 0


def _number(name: str, default: int) -> int:
    text = os.environ.get(name, str(default))
    try:
        return int(text)
    except ValueError:
        raise InputError(f"{name}={text!r} in the environment is no number", remedy=_REMEDY) from None
