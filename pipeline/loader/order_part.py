"""Who is next: the order of an epoch, shared out over processes.

The order is one permutation for the whole job. Step k takes the k-th run of `size * batch` entries and rank r the
r-th part of that run, so the samples of a step are the same set however many processes share it:

    order     | 7 2 9 4 | 1 8 0 5 | 3 6          (n = 10)
    2 ranks x 2:  step 0: rank 0 -> 7 2, rank 1 -> 9 4;   step 1: ...;   3 6 wait for another epoch

What a job remembers is how many entries it has consumed, not how many steps it took. So it goes on with any number of
processes and any batch size: what is left of the order is shared out anew.

    killed after step 0   7 2 9 4 | 1 8 0 5 3 6          consumed = 4
    resumed, 1 rank x 3           | 1 8 0 | 5 3 6        two steps: here even 3 6 get their turn
    resumed, 3 ranks x 1          | 1 8 0 | 5 3 6        the same steps, one entry a rank
    resumed, 2 ranks x 2          | 1 8 0 5 | 3 6        as if nothing had happened

A training step is always whole: the entries at the end of the order that do not fill one (fewer than `size * batch`)
wait for another epoch, in which they stand elsewhere. An evaluation pass leaves nobody out: its last steps are short,
and some ranks may have none.
"""

import numpy as np
from numpy.typing import NDArray

from pclkd.pipeline.randomness import permutation
from pclkd.pipeline.world import World
from pclkd.sharding.common.errors import InputError

__all__ = ["sequential_positions", "sequential_steps", "shuffled_positions", "shuffled_steps"]


def shuffled_steps(n: int, batch_size: int, world: World, consumed: int = 0) -> int:
    """Steps left of a training epoch: whole global batches only, so that every step weighs the same.

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
