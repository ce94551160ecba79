from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pclkd.pipeline.randomness import Purpose, integers, permutation, philox4x32, tensor_integers, uniform, words

# The known-answer vectors of Random123 for philox4x32 with 10 rounds: counter, key, output.
KNOWN_ANSWERS = [
    ("00000000 00000000 00000000 00000000", "00000000 00000000", "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
    ("ffffffff ffffffff ffffffff ffffffff", "ffffffff ffffffff", "408f276d 41c83b0e a20bc7c6 6d5451fd"),
    ("243f6a88 85a308d3 13198a2e 03707344", "a4093822 299f31d0", "d16cfe09 94fdcceb 5001e420 24126ea1"),
]


def philox_in_big_integers(counter: tuple[int, ...], key: tuple[int, ...]) -> list[int]:
    """The paper's round in Python integers, which never wrap."""
    c, k = list(counter), list(key)
    for _ in range(10):
        a, b = 0xD2511F53 * c[0], 0xCD9E8D57 * c[2]
        c = [(b >> 32) ^ c[1] ^ k[0], b % 2**32, (a >> 32) ^ c[3] ^ k[1], a % 2**32]
        k = [(k[0] + 0x9E3779B9) % 2**32, (k[1] + 0xBB67AE85) % 2**32]
    return c


@pytest.mark.parametrize("library", ["numpy", "torch"])
@pytest.mark.parametrize(("counter", "key", "answer"), KNOWN_ANSWERS)
def test_philox_gives_the_known_answers_of_random123(library: str, counter: str, key: str, answer: str) -> None:
    make: Any = np.array if library == "numpy" else torch.tensor
    columns = tuple(make([int(word, 16)]) for word in counter.split())
    k0, k1 = (int(word, 16) for word in key.split())
    with np.errstate(over="ignore"):
        out = philox4x32(columns, (k0, k1))
    assert [int(word[0]) for word in out] == [int(word, 16) for word in answer.split()]


WORD = st.integers(0, 2**32 - 1)


@given(seed=st.integers(0, 2**64 - 1), epoch=WORD, sample=WORD, purpose=st.sampled_from(Purpose), n=st.integers(1, 13))
@settings(max_examples=80, deadline=None)
def test_words_are_the_blocks_of_the_documented_counter(
    seed: int, epoch: int, sample: int, purpose: Purpose, n: int
) -> None:
    expected: list[int] = []
    for block in range((n + 3) // 4):
        expected += philox_in_big_integers((block, sample, epoch, int(purpose)), (seed % 2**32, seed >> 32))
    assert words(seed, epoch, [sample], purpose, n).tolist() == [expected[:n]]


@given(
    seed=st.integers(0, 2**64 - 1),
    epoch=WORD,
    ids=st.lists(WORD, min_size=1, max_size=5),
    n=st.integers(1, 9),
    high=st.integers(1, 2**31),
)
@settings(max_examples=80, deadline=None)
def test_numpy_and_torch_draw_the_same_integers(seed: int, epoch: int, ids: list[int], n: int, high: int) -> None:
    by_numpy = integers(seed, epoch, ids, Purpose.NEGATIVES, n, high)
    by_torch = tensor_integers(seed, epoch, torch.tensor(ids), Purpose.NEGATIVES, n, high)
    assert by_numpy.tolist() == by_torch.tolist()
    assert by_numpy.min() >= 0
    assert by_numpy.max() < high


def chi_square(counts: np.ndarray) -> float:
    expected = counts.sum() / len(counts)
    return float(((counts - expected) ** 2 / expected).sum())


@pytest.mark.parametrize("high", [2, 5, 10, 101])
def test_integers_are_uniform_over_samples_and_over_draws(high: int) -> None:
    drawn = integers(3, 1, np.arange(5000), Purpose.AUGMENT, 8, high)
    # Mean and deviation of chi-square with k degrees of freedom: k, sqrt(2k).
    freedom = high - 1
    limit = freedom + 6 * np.sqrt(2 * freedom)
    assert chi_square(np.bincount(drawn.ravel(), minlength=high)) < limit
    for column in drawn.T:
        assert chi_square(np.bincount(column, minlength=high)) < limit


def test_uniform_fills_the_unit_interval_and_columns_do_not_correlate() -> None:
    drawn = uniform(11, 0, np.arange(20000), Purpose.AUGMENT, 6)
    assert drawn.min() >= 0
    assert drawn.max() < 1
    assert np.abs(drawn.mean(axis=0) - 0.5).max() < 0.01
    assert np.abs(drawn.var(axis=0) - 1 / 12).max() < 0.003
    off_diagonal = np.corrcoef(drawn.T) - np.eye(6)
    assert np.abs(off_diagonal).max() < 0.04
    neighbours = np.corrcoef(drawn[:-1, 0], drawn[1:, 0])[0, 1]
    assert abs(neighbours) < 0.04


def test_a_draw_depends_on_its_own_sample_alone() -> None:
    together = words(5, 2, [7, 8, 9, 7], Purpose.PRETEXT, 6)
    alone = words(5, 2, [9], Purpose.PRETEXT, 6)
    assert (together[2] == alone[0]).all()
    assert (together[0] == together[3]).all()
    assert (words(5, 2, [9], Purpose.PRETEXT, 3) == alone[:, :3]).all()


@pytest.mark.parametrize(
    "other",
    [
        (6, 2, 9, Purpose.PRETEXT),
        (5 + 2**32, 2, 9, Purpose.PRETEXT),
        (5, 3, 9, Purpose.PRETEXT),
        (5, 2, 10, Purpose.PRETEXT),
        (5, 2, 9, Purpose.AUGMENT),
    ],
    ids=["seed", "high word of the seed", "epoch", "sample", "purpose"],
)
def test_each_argument_opens_another_stream(other: tuple[int, int, int, Purpose]) -> None:
    seed, epoch, sample, purpose = other
    here, there = words(5, 2, [9], Purpose.PRETEXT, 64), words(seed, epoch, [sample], purpose, 64)
    assert not (here == there).any()


@pytest.mark.parametrize("n", [0, 1, 2, 17, 1000])
def test_permutation_holds_every_number_once(n: int) -> None:
    assert sorted(permutation(1, 4, n).tolist()) == list(range(n))


def test_permutations_differ_by_epoch_and_repeat_by_arguments() -> None:
    first = permutation(1, 0, 500)
    assert (first == permutation(1, 0, 500)).all()
    # Two independent permutations agree in one place on average.
    assert (first == permutation(1, 1, 500)).sum() < 10
    assert (first == permutation(2, 0, 500)).sum() < 10


def test_all_orders_of_three_are_equally_likely() -> None:
    orders = [tuple(permutation(seed, 0, 3).tolist()) for seed in range(3000)]
    counts = np.unique(np.array(orders), axis=0, return_counts=True)[1]
    assert len(counts) == 6
    assert chi_square(counts) < 5 + 6 * np.sqrt(10)


def test_many_ids_are_drawn_as_few_are() -> None:
    """Longer than what is drawn at a time, and not a multiple of it."""
    ids = np.arange(100_000)[::-1]
    whole = words(3, 1, ids, Purpose.ORDER, 5)
    parts = [words(3, 1, ids[start : start + 777], Purpose.ORDER, 5) for start in range(0, len(ids), 777)]
    assert np.array_equal(whole, np.concatenate(parts))


def test_long_permutations_are_sorted_keys() -> None:
    n = 100_000
    pair = words(3, 1, np.arange(n), Purpose.ORDER, 2)
    order = permutation(3, 1, n)
    assert sorted(order.tolist()) == list(range(n))
    assert order.tolist() == sorted(range(n), key=lambda i: (int(pair[i, 0]), int(pair[i, 1]), i))


def test_a_permutation_of_many_is_one_sort_of_all_keys() -> None:
    n = 2**16 + 1000  # keys are made in pieces of 2**16
    pair = words(9, 4, np.arange(n), Purpose.ORDER, 2)
    keys = [(int(high) << 32) | int(low) for high, low in pair]
    assert permutation(9, 4, n).tolist() == sorted(range(n), key=lambda i: keys[i])
