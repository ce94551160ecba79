import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pclkd.pipeline.loader.order import sequential_positions, sequential_steps, shuffled_positions, shuffled_steps
from pclkd.pipeline.world import World
from pclkd.sharding.common.errors import InputError

sizes = st.integers(1, 6)


@given(n=st.integers(1, 200), batch=sizes, ranks=sizes, seed=st.integers(0, 2**63 - 1), epoch=st.integers(0, 1000))
def test_ranks_share_one_global_order(n: int, batch: int, ranks: int, seed: int, epoch: int) -> None:
    if n < batch * ranks:
        with pytest.raises(InputError, match=f"{n} samples"):
            shuffled_steps(n, batch, World(size=ranks))
        return
    alone = shuffled_positions(seed, epoch, n, batch * ranks, World())
    shared = [shuffled_positions(seed, epoch, n, batch, World(rank=rank, size=ranks)) for rank in range(ranks)]
    # Step k of the job is the same set in the same order, however many ranks share it.
    np.testing.assert_array_equal(np.concatenate(shared, axis=1), alone)
    assert len(set(alone.ravel().tolist())) == alone.size
    assert all(len(part) == shuffled_steps(n, batch, World(size=ranks)) for part in shared)


@given(n=st.integers(0, 200), batch=sizes, ranks=sizes)
def test_evaluation_sees_every_sample_once(n: int, batch: int, ranks: int) -> None:
    seen = [
        position
        for rank in range(ranks)
        for part in sequential_positions(n, batch, World(rank=rank, size=ranks))
        for position in part.tolist()
    ]
    assert sorted(seen) == list(range(n))
    longest = max(len(sequential_positions(n, batch, World(rank=rank, size=ranks))) for rank in range(ranks))
    assert longest == sequential_steps(n, batch, World(size=ranks))


def test_epochs_and_seeds_differ() -> None:
    orders = {
        tuple(shuffled_positions(seed, epoch, 64, 64, World()).ravel()) for seed in range(3) for epoch in range(3)
    }
    assert len(orders) == 9


def test_more_processes_than_samples_is_told() -> None:
    with pytest.raises(InputError, match="start at most 3 processes"):
        shuffled_steps(3, 1, World(size=4))


def test_a_rank_outside_the_job_is_refused() -> None:
    with pytest.raises(ValueError, match="rank 2"):
        World(rank=2, size=2)
