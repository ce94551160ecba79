import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pclkd.pipeline.sampling import TupleSettings, clip_frames, sample_tuples, uniform_starts

settings_strategy = st.builds(
    TupleSettings,
    clip_frames=st.sampled_from([4, 8, 16]),
    clip_stride=st.integers(1, 30),
    remote_distance=st.integers(0, 20),
)
unit = st.floats(0, 1, exclude_max=True)


@given(settings=settings_strategy, frames=st.integers(1, 400), u=st.tuples(unit, unit))
def test_tuple_and_remote_lie_within_the_video_and_apart(
    settings: TupleSettings, frames: int, u: tuple[float, float]
) -> None:
    places = sample_tuples(np.array([frames]), np.array([u]), settings)
    start, remote = int(places.start[0]), int(places.remote[0])
    end = start + 2 * settings.clip_stride + settings.clip_frames
    if frames >= settings.span:
        assert start >= 0 and end <= frames
    else:
        assert start == 0
    # By hand: every start of a remote clip that is allowed.
    allowed = [
        r
        for r in range(frames - settings.clip_frames + 1)
        if r + settings.clip_frames + settings.remote_distance <= start or r >= end + settings.remote_distance
    ]
    assert bool(places.has_remote[0]) == bool(allowed)
    if allowed:
        assert remote in allowed


def test_every_place_is_drawn_about_equally() -> None:
    settings = TupleSettings(clip_frames=4, clip_stride=4, remote_distance=2)
    n = 20_000
    draws = np.random.default_rng(0).random((n, 2))
    places = sample_tuples(np.full(n, 24), draws, settings)
    counts = np.bincount(places.start, minlength=13)
    assert len(counts) == 13  # 24 frames, a span of 12: starts 0 to 12
    assert np.all(np.abs(counts / n - 1 / 13) < 0.01)
    middle = places.start == 6
    # Before: starts 0 (0+4+2 <= 6). After: 6+12+2 = 20 <= r <= 20.
    assert set(places.remote[middle].tolist()) == {0, 20}


def test_published_spacing_overlaps_and_the_intended_does_not() -> None:
    assert TupleSettings().span == 64
    assert TupleSettings(clip_stride=11).span == 38


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


def test_short_videos_loop() -> None:
    np.testing.assert_array_equal(
        clip_frames(np.array([[0, 3]]), 6, np.array([5])), [[[0, 1, 2, 3, 4, 0], [3, 4, 0, 1, 2, 3]]]
    )


def test_clip_length_must_divide_into_quarters() -> None:
    with pytest.raises(ValueError, match="multiple of 4"):
        TupleSettings(clip_frames=6)
