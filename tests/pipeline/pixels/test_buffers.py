"""Memory is used again when nobody can see it any more, and not a moment sooner."""

import gc
import threading

import numpy as np
import torch

from pclkd.pipeline.pixels.fused import BufferPool

SHAPE = (4, 5)


def address(array: np.ndarray) -> int:
    return int(array.__array_interface__["data"][0])


def test_memory_comes_back_when_the_array_goes() -> None:
    pool = BufferPool()
    first = pool.take(SHAPE)
    assert first.shape == SHAPE and first.dtype == np.float32
    where = address(first)
    other = pool.take(SHAPE)
    assert address(other) != where
    del first
    assert address(pool.take(SHAPE)) == where


def test_whatever_sees_a_tensor_of_it_keeps_it() -> None:
    """A part of a tensor, numpy's view of it, and what autograd holds for the backward pass."""
    weight = torch.ones(5, requires_grad=True)
    for hold in (
        lambda clips: clips[1:3, 2],
        lambda clips: clips.numpy()[2:],
        lambda clips: (clips * weight).sum(),
        lambda clips: clips.permute(1, 0)[None],
    ):
        pool = BufferPool()
        lent = pool.take(SHAPE)
        where = address(lent)
        held = hold(torch.from_numpy(lent))
        del lent
        gc.collect()
        assert address(pool.take(SHAPE)) != where
        del held
        gc.collect()
        taken = [address(array) for array in [pool.take(SHAPE), pool.take(SHAPE)]]
        assert where in taken


def test_other_shapes_get_memory_of_their_own() -> None:
    pool = BufferPool()
    pool.take(SHAPE)
    assert pool.take((2, 3)).shape == (2, 3)
    assert pool.take(SHAPE).shape == SHAPE


def test_no_more_than_the_spare_ones_are_kept() -> None:
    pool = BufferPool(spare=2)
    lent = [pool.take(SHAPE) for _ in range(6)]
    del lent
    assert len(pool._free) == 2
    pool.clear()
    assert not pool._free


def test_threads_never_share_memory() -> None:
    pool, wrong = BufferPool(), []

    def work(number: int) -> None:
        for turn in range(300):
            mine = torch.from_numpy(pool.take((64,)))
            mine.fill_(number * 1000 + turn)
            if not bool((mine == number * 1000 + turn).all()):
                wrong.append((number, turn))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
