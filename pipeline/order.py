"""Who is next: the order of an epoch, shared out over processes.

The order is one permutation for the whole job. Step k takes the k-th run of `size * batch` entries and rank r the
r-th part of that run, so the samples of a step are the same set however many processes share it:

    order     | 7 2 9 4 | 1 8 0 5 | 3 6          (n = 10)
    2 ranks x 2:  step 0: rank 0 -> 7 2, rank 1 -> 9 4;   step 1: ...;   3 6 wait for another epoch
"""

import numpy as np
from numpy.typing import NDArray

from pclkd.pipeline.randomness import permutation
from pclkd.pipeline.world import World
from pclkd.sharding.errors import InputError

__all__ = ["sequential_positions", "sequential_steps", "shuffled_positions", "shuffled_steps"]


def shuffled_steps(n: int, batch_size: int, world: World) -> int:
    """Steps of a training epoch: whole global batches only, so that every step weighs the same.

    Raises:
        InputError: there are fewer samples than one step of all processes takes.
    """
    if n < batch_size * world.size:
        raise InputError(
            f"{n} samples do not fill one step of {world.size} process(es) x batch size {batch_size}",
            remedy=f"lower --set loader.batch_size to at most {n // world.size}"
            if n >= world.size
            else f"start at most {n} processes",
        )
    return n // (batch_size * world.size)


def shuffled_positions(seed: int, epoch: int, n: int, batch_size: int, world: World) -> NDArray[np.int64]:
    """[steps, batch_size] positions in the split that this rank takes in each step of an epoch."""
    steps = shuffled_steps(n, batch_size, world)
    order = permutation(seed, epoch, n)[: steps * world.size * batch_size]
    return order.reshape(steps, world.size, batch_size)[:, world.rank]


def sequential_steps(n: int, batch_size: int, world: World) -> int:
    """Steps of an evaluation pass: every sample once, the last batch of a rank may be short or empty."""
    return -(-n // (batch_size * world.size))


def sequential_positions(n: int, batch_size: int, world: World) -> list[NDArray[np.int64]]:
    """One array of positions a step, in order; together the ranks see each of the n samples exactly once."""
    starts = range(world.rank * batch_size, n, world.size * batch_size)
    return [np.arange(start, min(start + batch_size, n)) for start in starts]
