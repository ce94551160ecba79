"""Who is next, and where a loader stands: another one, with any number of processes, goes on from there."""

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pclkd.pipeline.randomness import permutation
from pclkd.pipeline.world import World
from pclkd.sharding.common.errors import InputError
from pclkd.sharding.shards.index import ShardIndex

__all__ = [
    "LoaderState",
    "data_fingerprint",
    "sequential_positions",
    "sequential_steps",
    "shuffled_positions",
    "shuffled_steps",
]


def shuffled_steps(n: int, batch_size: int, world: World, consumed: int = 0) -> int:
    """Steps left of a training epoch: whole global batches only, so that every step weighs the same.

    Raises:
        InputError: there are fewer samples than one step of all processes takes.
    """
    if n < batch_size * world.size:
        raise InputError(
            f"{n} samples do not fill one step of {world.size} process(es) x batch size {batch_size}",
            remedy=f"lower the batch size (--set loader.batch_size, or --batch-size) to at most {n // world.size}"
            if n >= world.size
            else f"start at most {n} processes",
        )
    return (n - consumed) // (batch_size * world.size)


def shuffled_positions(
    seed: int, epoch: int, n: int, batch_size: int, world: World, consumed: int = 0
) -> NDArray[np.int64]:
    """[steps, batch_size] positions in the split that this rank takes in each step left of an epoch.

    Args:
        seed: the run's seed.
        epoch: the epoch.
        n: samples in the split.
        batch_size: samples a step and process.
        world: the processes that share the rest of the epoch.
        consumed: entries of the order that are done, 0 <= consumed <= n.
    """
    steps = shuffled_steps(n, batch_size, world, consumed)
    order = permutation(seed, epoch, n)[consumed : consumed + steps * world.size * batch_size]
    return order.reshape(steps, world.size, batch_size)[:, world.rank]


def sequential_steps(n: int, batch_size: int, world: World, consumed: int = 0) -> int:
    """Steps left of an evaluation pass: every sample once, the last batch of a rank may be short or empty."""
    return -(-(n - consumed) // (batch_size * world.size))


def sequential_positions(n: int, batch_size: int, world: World, consumed: int = 0) -> list[NDArray[np.int64]]:
    """One array of positions a step, in order; together the ranks see each sample from `consumed` on exactly once."""
    starts = range(consumed + world.rank * batch_size, n, world.size * batch_size)
    return [np.arange(start, min(start + batch_size, n)) for start in starts]


_VERSION = 1


def data_fingerprint(index: ShardIndex, samples: NDArray[np.int64]) -> str:
    """SHA-256 over a shard set's fingerprint and the [n] samples that are taken of it, as hex."""
    digest = hashlib.sha256(index.fingerprint.encode())
    digest.update(np.ascontiguousarray(samples, dtype="<i8").data)
    return digest.hexdigest()


@dataclass(frozen=True)
class LoaderState:
    """A place in a run over a data set; the same on every rank.

    Attributes:
        epoch: the epoch under way, or the next one.
        consumed: entries of the epoch's order that all processes together have taken.
        seed: the loader's seed, which decides the order.
        shuffled: whether the order is shuffled (training) or as in the index (evaluation).
        samples: samples in an epoch.
        fingerprint: of the data, see `data_fingerprint`.
    """

    epoch: int
    consumed: int
    seed: int
    shuffled: bool
    samples: int
    fingerprint: str

    def as_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON or a checkpoint."""
        return {"version": _VERSION, **asdict(self)}

    def at(self, epoch: int, consumed: int) -> "LoaderState":
        """The same loader at another place."""
        return replace(self, epoch=epoch, consumed=consumed)

    def moved_to(self, values: Mapping[str, Any]) -> "LoaderState":
        """This loader's state at the epoch and place that `values`, of `as_dict`, tell.

        Raises:
            InputError: no such state, one of other data, or of a loader that orders its samples in another way.
        """
        if values.get("version") != _VERSION:
            raise InputError(
                f"a loader state of version {values.get('version')!r}, this program reads version {_VERSION}",
                remedy="give what ClipLoader.state_dict() returned, and use the release that wrote it",
            )
        try:
            found = LoaderState(**{name: value for name, value in values.items() if name != "version"})
        except TypeError as error:
            raise InputError(
                f"not a loader state ({error})", remedy="give what ClipLoader.state_dict() returned"
            ) from None
        if (found.fingerprint, found.samples) != (self.fingerprint, self.samples):
            raise InputError(
                f"the loader state belongs to other data ({found.fingerprint[:12]} with {found.samples} samples; "
                f"this is {self.fingerprint[:12]} with {self.samples})",
                remedy="open the shards, split and part that it was saved with",
            )
        if (found.seed, found.shuffled) != (self.seed, self.shuffled):
            kinds = {True: "shuffled", False: "in order"}
            raise InputError(
                f"the loader state is of seed {found.seed}, {kinds[found.shuffled]}; "
                f"this loader has seed {self.seed}, {kinds[self.shuffled]}",
                remedy=f"make the loader with seed={found.seed} and the same part",
            )
        if not (found.epoch >= 0 and 0 <= found.consumed <= found.samples):
            raise InputError(
                f"the loader state stands at sample {found.consumed} of {found.samples} in epoch {found.epoch}",
                remedy="give what ClipLoader.state_dict() returned",
            )
        return found
