"""Random numbers as pure functions of (seed, epoch, sample id, purpose).

There is no generator state anywhere: each draw is one block of the counter-based generator Philox4x32-10,
with the seed as key and (block, sample id, epoch, purpose) as counter. So a batch does not depend on threads,
prefetch, restarts or the number of processes, and resuming needs nothing but (epoch, step).

The arithmetic uses only operators that numpy and torch int64 arrays share, so the same lines run on either,
on any device, and give the same words.

Source: Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011.
"""

from __future__ import annotations

from enum import IntEnum
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

if TYPE_CHECKING:
    import torch

__all__ = ["Purpose", "integers", "permutation", "philox4x32", "tensor_integers", "uniform", "words"]

_MASK = 0xFFFFFFFF
_MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
_WEYL = (0x9E3779B9, 0xBB67AE85)
_ROUNDS = 10
_CHUNK = 2**16  # ids whose keys are worked out at a time: the steps in between take 20 times the memory of the keys
_CACHED = 1 << 15  # ids at a time: what ten rounds go through then stays in the cache of a core


class Purpose(IntEnum):
    """What a draw is for; each purpose has its own stream. The numbers are part of the reproducibility contract."""

    ORDER = 0
    CLIP_START = 1
    PRETEXT = 2
    AUGMENT = 3
    REPLACEMENT = 4
    NEGATIVES = 5
    INITIAL_BANK = 6
    FRACTION = 7


def _multiply(a: Any, multiplier: int) -> tuple[Any, Any]:
    """High and low 32 bits of a * multiplier."""
    # The product of two 32-bit words can pass 2**63. int64 wraps, its bits stay right, and the masks drop the sign.
    product = a * multiplier
    return (product >> 32) & _MASK, product & _MASK


def philox4x32(counter: tuple[Any, Any, Any, Any], key: tuple[int, int]) -> tuple[Any, Any, Any, Any]:
    """Philox4x32-10 on int64 arrays whose values are 32-bit words.

    Args:
        counter: four broadcastable int64 arrays (numpy or torch), each value in [0, 2**32).
        key: two 32-bit words.

    Returns:
        Four int64 arrays of 32-bit words.
    """
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(_ROUNDS):
        high0, low0 = _multiply(c0, _MULTIPLIERS[0])
        high1, low1 = _multiply(c2, _MULTIPLIERS[1])
        c0, c1, c2, c3 = high1 ^ c1 ^ k0, low1, high0 ^ c3 ^ k1, low0
        k0, k1 = (k0 + _WEYL[0]) & _MASK, (k1 + _WEYL[1]) & _MASK
    return c0, c1, c2, c3


def words(seed: int, epoch: int, ids: ArrayLike, purpose: Purpose, n: int) -> NDArray[np.int64]:
    """`n` uniform 32-bit words for each id.

    Args:
        seed: the run's seed, 0 <= seed < 2**64.
        epoch: 0 <= epoch < 2**32.
        ids: [N] sample ids, each in [0, 2**32).
        purpose: which stream.
        n: words per id.

    Returns:
        [N, n] int64, values in [0, 2**32).
    """
    flat = np.asarray(ids, dtype=np.int64).reshape(-1)
    if len(flat) > _CACHED:
        parts = [flat[start : start + _CACHED] for start in range(0, len(flat), _CACHED)]
        return np.concatenate([words(seed, epoch, part, purpose, n) for part in parts])
    id_column = flat.reshape(-1, 1)
    blocks = np.arange(-(-n // 4), dtype=np.int64).reshape(1, -1)
    zero = np.zeros_like(id_column + blocks)
    counter = (zero + blocks, zero + id_column, zero + epoch, zero + int(purpose))
    with np.errstate(over="ignore"):
        out = philox4x32(counter, (seed & _MASK, (seed >> 32) & _MASK))
    return np.stack(out, axis=-1).reshape(id_column.shape[0], 4 * blocks.shape[1])[:, :n]


def uniform(seed: int, epoch: int, ids: ArrayLike, purpose: Purpose, n: int) -> NDArray[np.float64]:
    """[N, n] float64, uniform on [0, 1) in steps of 2**-32. Arguments as in `words`."""
    return words(seed, epoch, ids, purpose, n) / 2.0**32


def integers(seed: int, epoch: int, ids: ArrayLike, purpose: Purpose, n: int, high: int) -> NDArray[np.int64]:
    """[N, n] int64, uniform on [0, high), high <= 2**31. Arguments as in `words`.

    The bias of multiply-and-shift is below high / 2**32.
    """
    return (words(seed, epoch, ids, purpose, n) * high) >> 32


def permutation(seed: int, epoch: int, n: int) -> NDArray[np.int64]:
    """The order of an epoch: a random permutation of range(n), ids sorted by a 64-bit random key, ties broken by id."""
    keys = np.empty(n, np.uint64)
    for start in range(0, n, _CHUNK):
        pair = words(seed, epoch, np.arange(start, min(start + _CHUNK, n)), Purpose.ORDER, 2).astype(np.uint64)
        keys[start : start + _CHUNK] = (pair[:, 0] << np.uint64(32)) | pair[:, 1]
    order = np.argsort(keys)  # several times as fast as a stable sort, and the same unless two keys are equal
    ranked = keys[order]
    return np.argsort(keys, kind="stable") if (ranked[1:] == ranked[:-1]).any() else order


def tensor_integers(seed: int, epoch: int, ids: torch.Tensor, purpose: Purpose, n: int, high: int) -> torch.Tensor:
    """`integers` on the device of `ids`, the same numbers: [N, n] int64, without a copy to the host.

    Args:
        seed: the run's seed.
        epoch: the epoch.
        ids: [N] int64 tensor.
        purpose: which stream.
        n: draws per id.
        high: exclusive upper end, at most 2**31.
    """
    import torch

    blocks = torch.arange(-(-n // 4), device=ids.device)
    # As philox4x32, with the words of the counter in two pairs, (c0, c2) and (c1, c3): half as many operators, each of
    # which is a launch on a GPU.
    multipliers, keys = _tensor_constants(seed, ids.device)
    even = torch.empty(2, len(ids), len(blocks), dtype=torch.int64, device=ids.device)
    odd = torch.empty_like(even)
    even[0], even[1] = blocks, epoch
    odd[0], odd[1] = ids.reshape(-1, 1), int(purpose)
    for key in keys:
        product = (even * multipliers).flip(0)
        even = ((product >> 32) & _MASK).bitwise_xor_(odd).bitwise_xor_(key)
        odd = product.bitwise_and_(_MASK)
    out = torch.stack((even[0], odd[0], even[1], odd[1]), dim=-1)
    return (out.reshape(len(ids), 4 * len(blocks))[:, :n] * high) >> 32


@lru_cache(maxsize=16)
def _tensor_constants(seed: int, device: torch.device) -> tuple[torch.Tensor, tuple[torch.Tensor, ...]]:
    """The multipliers, and the keys of the ten rounds; copied to a device once, because that copy waits for it."""
    keys = [[(seed + turn * _WEYL[0]) & _MASK, ((seed >> 32) + turn * _WEYL[1]) & _MASK] for turn in range(_ROUNDS)]
    import torch

    multipliers = torch.tensor(_MULTIPLIERS, dtype=torch.int64, device=device).reshape(2, 1, 1)
    return multipliers, torch.tensor(keys, dtype=torch.int64, device=device).reshape(_ROUNDS, 2, 1, 1).unbind()
