from collections import Counter
from itertools import pairwise
from pathlib import Path

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from pclkd.pipeline import ClipConfig, clip_loader
from pclkd.pipeline.clips.fraction import balanced_fraction
from pclkd.sharding.shards.index import ShardIndex

labels = st.lists(st.integers(0, 6), min_size=1, max_size=120).map(np.array)
share = st.floats(0.001, 1)


@given(labels=labels, fractions=st.lists(share, min_size=2, max_size=4), seed=st.integers(0, 2**63 - 1))
def test_a_larger_part_contains_a_smaller_one(labels: np.ndarray, fractions: list[float], seed: int) -> None:
    samples = 3 * np.arange(len(labels)) + 5
    parts = [balanced_fraction(samples, labels, fraction, seed) for fraction in sorted(fractions)]
    for fraction, part in zip(sorted(fractions), parts, strict=True):
        assert len(part) == max(1, round(fraction * len(labels)))
        assert (np.diff(part) > 0).all() and np.isin(part, samples).all()
    for smaller, larger in pairwise(parts):
        assert set(smaller.tolist()) <= set(larger.tolist())


@given(labels=labels, fraction=share, seed=st.integers(0, 2**63 - 1))
def test_no_class_is_a_video_ahead_of_another(labels: np.ndarray, fraction: float, seed: int) -> None:
    part = balanced_fraction(np.arange(len(labels)), labels, fraction, seed)
    there, taken = Counter(labels.tolist()), Counter(labels[part].tolist())
    # One share t that all counts are less than a video away from.
    least = max((taken[label] - 1) / n for label, n in there.items())
    most = min((taken[label] + 1) / n for label, n in there.items())
    assert least < most + 1e-12


def test_every_video_of_a_class_has_the_same_chance() -> None:
    labels = np.repeat([0, 1, 2], [4, 8, 12])
    drawn = Counter(
        sample for seed in range(600) for sample in balanced_fraction(np.arange(24), labels, 0.25, seed).tolist()
    )
    expected, spread = 600 / 4, np.sqrt(600 * 3 / 16)
    assert all(abs(drawn[sample] - expected) < 5 * spread for sample in range(24))


def test_a_loader_delivers_the_fraction_and_tests_on_everything(synthetic_shards: Path) -> None:
    index = ShardIndex.open(synthetic_shards)
    config = ClipConfig(fraction=0.34, fraction_seed=3)
    chosen = config.train_samples(index)
    assert Counter(index.sample_label[chosen].tolist()) == dict.fromkeys(range(4), 1)  # of three each
    with clip_loader(index, config, batch_size=4, crop=32, threads=1) as loader:
        (batch,) = loader.epoch(0)
        assert sorted(chosen[batch.sample_index].tolist()) == chosen.tolist()
        assert sorted(batch.label.tolist()) == [0, 1, 2, 3]
    with clip_loader(index, config, part="test", batch_size=4, crop=32, threads=1) as loader:
        assert sum(batch.valid for batch in loader.epoch(0)) == 4
    assert not np.array_equal(chosen, ClipConfig(fraction=0.34, fraction_seed=4).train_samples(index))
