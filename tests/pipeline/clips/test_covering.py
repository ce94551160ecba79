from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pclkd.pipeline.clips.covering import dense_counts, dense_starts, uniform_starts


@given(frames=st.integers(1, 300), clips=st.integers(1, 12), length=st.integers(1, 32))
def test_uniform_clips_cover_the_video(frames: int, clips: int, length: int) -> None:
    starts = uniform_starts(np.array([frames]), clips, length)[0]
    room = max(frames - length, 0)
    assert np.all((starts >= 0) & (starts <= room))
    if clips > 1:
        assert starts[0] == 0 and starts[-1] == room
        assert np.ptp(np.diff(starts)) <= 1
    else:
        assert starts[0] == room // 2


@given(
    frames=st.integers(1, 200),
    clips=st.integers(1, 10),
    length=st.integers(1, 32),
    jitter=st.integers(1, 40),
    u=st.floats(0, 1, exclude_max=True),
)
def test_jittered_clips_stay_near_and_within_the_video(
    frames: int, clips: int, length: int, jitter: int, u: float
) -> None:
    still = uniform_starts(np.array([frames]), clips, length)[0].tolist()
    moved = uniform_starts(np.array([frames]), clips, length, jitter, np.full((1, clips), u))[0].tolist()
    for before, after in zip(still, moved, strict=True):
        possible = [s for s in range(max(frames - length, 0) + 1) if abs(s - before) <= jitter]
        assert after == possible[int(u * len(possible))]


def test_every_jitter_comes_about_equally() -> None:
    n = 20_000
    moved = uniform_starts(np.full(n, 20), 3, 10, 2, np.random.default_rng(0).random((n, 3)))
    for clip, possible in enumerate([[0, 1, 2], [3, 4, 5, 6, 7], [8, 9, 10]]):
        counts = Counter(moved[:, clip].tolist())
        assert sorted(counts) == possible
        assert all(abs(count / n - 1 / len(possible)) < 0.02 for count in counts.values())


def test_jitter_needs_draws() -> None:
    with pytest.raises(ValueError, match="jitter of 2"):
        uniform_starts(np.array([20]), 3, 10, 2)


@given(
    frames=st.lists(st.integers(1, 200), min_size=1, max_size=4),
    every=st.integers(1, 20),
    reach=st.integers(1, 40),
    clips=st.integers(1, 7),
)
def test_the_passes_of_a_dense_walk_show_every_window_once(
    frames: list[int], every: int, reach: int, clips: int
) -> None:
    counts = dense_counts(np.array(frames), every, reach)
    passes = [
        dense_starts(np.array(frames), every, reach, first, clips) for first in range(0, int(counts.max()), clips)
    ]
    walked = np.concatenate(passes, axis=1)
    for row, n in enumerate(frames):
        windows = [s for s in range(0, n, every) if s + reach <= n] or [0]
        assert counts[row] == len(windows)
        assert walked[row, : len(windows)].tolist() == windows
        assert set(walked[row, len(windows) :].tolist()) <= {windows[-1]}
