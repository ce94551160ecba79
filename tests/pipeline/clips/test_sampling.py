import itertools
from collections import Counter

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import settings as budget
from hypothesis import strategies as st

from pclkd.pipeline.clips.sampling import (
    ClipSettings,
    TupleSettings,
    ViewSettings,
    clip_frames,
    longest_strides,
    sample_tuples,
    sample_views,
)

tuple_settings = st.builds(
    TupleSettings,
    clip_frames=st.integers(1, 16),
    frame_stride=st.integers(1, 8),
    clip_stride=st.integers(1, 30),
    remote_distance=st.integers(0, 20),
)
unit = st.floats(0, 1, exclude_max=True)
SMALL = TupleSettings(clip_frames=4, clip_stride=4, remote_distance=2)


def shown(start: int, length: int, stride: int) -> set[int]:
    """The frames of a clip, one by one."""
    return {start + t * stride for t in range(length)}


def likely(counts: Counter[object], outcomes: int, n: int) -> bool:
    """Whether all outcomes came, each about as often: within six standard deviations."""
    chance = 1 / outcomes
    spread = 6 * np.sqrt(n * chance * (1 - chance))
    return len(counts) == outcomes and all(abs(count - n * chance) <= spread for count in counts.values())


@given(settings=tuple_settings, frames=st.integers(1, 400), u=st.tuples(unit, unit))
def test_tuple_and_remote_lie_within_the_video_and_apart(
    settings: TupleSettings, frames: int, u: tuple[float, float]
) -> None:
    places = sample_tuples(np.array([frames]), np.array([u]), settings)
    start, remote = int(places.start[0]), int(places.remote[0])
    length, stride = settings.clip_frames, settings.frame_stride
    used = set().union(*(shown(start + k * settings.clip_stride, length, stride) for k in range(3)))
    assert max(used) - min(used) + 1 == settings.span
    if settings.span <= frames:
        assert min(used) >= 0 and max(used) < frames
    else:
        assert start == 0
    # By hand: every start of a remote clip that is allowed.
    allowed = [
        r
        for r in range(frames)
        if max(clip := shown(r, length, stride)) < frames
        and (max(clip) + settings.remote_distance < start or r > start + settings.span - 1 + settings.remote_distance)
    ]
    assert bool(places.has_remote[0]) == bool(allowed)
    assert remote in (allowed or [0])


@pytest.mark.parametrize("frames", [1, 3, 4, 5, 11, 12, 13, 40])
def test_tuples_start_at_every_place_about_equally(frames: int) -> None:
    n = 20_000
    places = sample_tuples(np.full(n, frames), np.random.default_rng(frames).random((n, 2)), SMALL)
    fitting = [s for s in range(frames) if s + 12 <= frames] or [0]  # three clips of 4 end to end
    assert likely(Counter(places.start.tolist()), len(fitting), n)


def test_remote_clips_start_at_every_place_about_equally() -> None:
    n = 60_000
    places = sample_tuples(np.full(n, 30), np.random.default_rng(1).random((n, 2)), SMALL)
    for start in (0, 6, 7, 12, 18):
        chosen = places.remote[places.start == start]
        allowed = [r for r in range(27) if r + 4 + 2 <= start or r >= start + 12 + 2]
        assert set(chosen.tolist()) == set(allowed)
        assert likely(Counter(chosen.tolist()), len(allowed), len(chosen)), start


@given(
    settings=tuple_settings,
    frames=st.integers(1, 600),
    strides=st.lists(st.integers(1, 8), min_size=3, max_size=3),
    u=st.tuples(unit, unit),
)
def test_tuples_whose_clips_play_at_different_speeds_fit_too(
    settings: TupleSettings, frames: int, strides: list[int], u: tuple[float, float]
) -> None:
    start = int(sample_tuples(np.array([frames]), np.array([u]), settings, np.array([strides])).start[0])
    used = set().union(
        *(shown(k * settings.clip_stride, settings.clip_frames, stride) for k, stride in enumerate(strides))
    )
    places = max(frames - max(used), 1)
    assert start == int(u[0] * places)


def test_the_spacing_has_names() -> None:
    assert TupleSettings().clip_stride == TupleSettings.model_validate({"clip_stride": "intended"}).clip_stride == 24
    published = TupleSettings.model_validate({"clip_stride": "published"})
    assert published.clip_stride == 11 and published.span == 38
    assert TupleSettings().span == 64
    # The intent is 8 frames between clips, however far they reach.
    slow = TupleSettings.model_validate({"clip_frames": 8, "frame_stride": 2, "clip_stride": "intended"})
    assert slow.clip_stride == 15 + 8
    with pytest.raises(ValueError, match="clip_stride"):
        TupleSettings.model_validate({"clip_stride": "wide"})
    with pytest.raises(ValueError, match="clip_frames"):
        TupleSettings.model_validate({"clip_frames": 0, "clip_stride": "intended"})


@given(
    frames=st.integers(1, 300),
    settings=st.builds(
        ViewSettings,
        clip_frames=st.integers(1, 20),
        frame_stride=st.integers(1, 8),
        views=st.integers(1, 6),
        min_distance=st.integers(0, 40),
    ),
    data=st.data(),
)
@example(frames=16, settings=ViewSettings(), data=None)
@example(frames=15, settings=ViewSettings(min_distance=3), data=None)
@example(frames=17, settings=ViewSettings(min_distance=3), data=None)
def test_views_lie_within_the_video_and_apart(frames: int, settings: ViewSettings, data: st.DataObject | None) -> None:
    views = settings.views
    u = data.draw(st.lists(unit, min_size=views, max_size=views)) if data else [0.999] * views
    starts = sample_views(np.array([frames]), np.array([u]), settings)[0].tolist()
    last = max(frames - settings.reach, 0)
    assert all(0 <= s <= last for s in starts)
    if frames >= settings.reach:
        assert all(max(shown(s, settings.clip_frames, settings.frame_stride)) < frames for s in starts)
    # The largest distance that `views` starts on 0 ... last can keep, by trying.
    fits = max(d for d in range(last + 1) if (views - 1) * d <= last)
    wanted = min(settings.min_distance, fits) if views > 1 else 0
    assert all(abs(a - b) >= wanted for a, b in itertools.combinations(starts, 2))


@pytest.mark.parametrize(
    ("frames", "views", "distance"), [(9, 2, 0), (9, 2, 1), (9, 2, 3), (10, 3, 2), (12, 3, 4), (7, 3, 9), (4, 3, 2)]
)
def test_every_placement_of_views_comes_about_equally(frames: int, views: int, distance: int) -> None:
    n = 40_000
    settings = ViewSettings(clip_frames=4, views=views, min_distance=distance)
    starts = sample_views(np.full(n, frames), np.random.default_rng(frames).random((n, views)), settings)
    apart = min(distance, (frames - 4) // (views - 1))
    allowed = [
        place
        for place in itertools.product(range(frames - 3), repeat=views)
        if all(abs(a - b) >= apart for a, b in itertools.combinations(place, 2))
    ]
    counts: Counter[object] = Counter(map(tuple, starts.tolist()))
    assert set(counts) == set(allowed)
    assert likely(counts, len(allowed), n)


@given(
    frames=st.integers(1, 400),
    strides=st.lists(st.integers(1, 8), min_size=3, max_size=3),
    length=st.integers(1, 20),
    distance=st.integers(0, 9),
    u=st.lists(unit, min_size=3, max_size=3),
)
def test_views_at_different_speeds_all_fit(
    frames: int, strides: list[int], length: int, distance: int, u: list[float]
) -> None:
    settings = ViewSettings(clip_frames=length, views=3, min_distance=distance)
    starts = sample_views(np.array([frames]), np.array([u]), settings, np.array([strides]))[0].tolist()
    furthest = max(max(shown(s, length, stride)) for s, stride in zip(starts, strides, strict=True))
    assert furthest < frames or max(max(shown(0, length, stride)) for stride in strides) >= frames
    if max(max(shown(0, length, stride)) for stride in strides) >= frames:
        assert starts == [0, 0, 0]


@given(data=st.data(), views=st.integers(1, 4), distance=st.integers(0, 9))
def test_a_video_is_placed_alike_whatever_the_batch(data: st.DataObject, views: int, distance: int) -> None:
    frames = np.array(data.draw(st.lists(st.integers(1, 80), min_size=1, max_size=5)))
    u = np.array(
        data.draw(st.lists(st.lists(unit, min_size=views, max_size=views), min_size=len(frames), max_size=len(frames)))
    )
    settings = ViewSettings(clip_frames=4, views=views, min_distance=distance)
    together = sample_views(frames, u, settings)
    alone = [sample_views(frames[b : b + 1], u[b : b + 1], settings)[0] for b in range(len(frames))]
    assert np.array_equal(together, alone)


@given(
    frames=st.integers(1, 400),
    offsets=st.lists(st.integers(0, 100), min_size=1, max_size=4),
    length=st.integers(2, 20),
    base=st.integers(1, 4),
)
def test_the_longest_stride_is_the_last_that_fits(frames: int, offsets: list[int], length: int, base: int) -> None:
    settings = ClipSettings(clip_frames=length, frame_stride=base)
    got = longest_strides(np.array([frames]), np.array(offsets), settings)[0].tolist()
    for offset, longest in zip(offsets, got, strict=True):
        fitting = [k for k in range(1, frames + 1) if max(shown(offset, length, k * base)) < frames]
        assert longest == max(fitting, default=1)


@given(
    start=st.integers(0, 50),
    length=st.integers(1, 40),
    frames=st.integers(1, 60),
    stride=st.integers(1, 8),
)
def test_frame_numbers_walk_through_the_video(start: int, length: int, frames: int, stride: int) -> None:
    looped = clip_frames(np.array([[start]]), length, np.array([frames]), stride)[0, 0].tolist()
    edged = clip_frames(np.array([[start]]), length, np.array([frames]), stride, "edge")[0, 0].tolist()
    once = list(range(frames))
    again = once * (2 + (start + length * stride) // frames)
    resting = once + once[-1:] * (start + length * stride)
    assert looped == again[start::stride][:length]
    assert edged == resting[start::stride][:length]


@pytest.mark.parametrize("frames", [1, 7, 8, 9])  # 1, T - 1, T, T + 1
def test_clips_at_the_boundaries_of_short_videos(frames: int) -> None:
    starts = sample_views(np.array([frames]), np.array([[0.0, 0.999]]), ViewSettings(clip_frames=8))
    assert starts.tolist() == [[0, max(frames - 8, 0)]]
    got = clip_frames(starts, 8, np.array([frames]))[0]
    assert got.max() == min(7, frames - 1) + max(frames - 8, 0)
    assert len(np.unique(got[0])) == min(8, frames)


def test_short_videos_loop_or_rest() -> None:
    starts, frames = np.array([[0, 3]]), np.array([5])
    np.testing.assert_array_equal(clip_frames(starts, 6, frames), [[[0, 1, 2, 3, 4, 0], [3, 4, 0, 1, 2, 3]]])
    np.testing.assert_array_equal(
        clip_frames(starts, 6, frames, short="edge"), [[[0, 1, 2, 3, 4, 4], [3, 4, 4, 4, 4, 4]]]
    )
    # The picture in the docstring, and one stride a clip.
    np.testing.assert_array_equal(
        clip_frames(np.array([[2, 2]]), 8, frames, np.array([[2, 1]])),
        [[[2, 4, 1, 3, 0, 2, 4, 1], [2, 3, 4, 0, 1, 2, 3, 4]]],
    )


@budget(max_examples=20)
@given(spacing=st.sampled_from(["intended", "published"]), frames=st.integers(64, 200), u=st.tuples(unit, unit))
def test_clips_of_a_tuple_are_exactly_spaced(spacing: str, frames: int, u: tuple[float, float]) -> None:
    settings = TupleSettings.model_validate({"clip_stride": spacing})
    start = sample_tuples(np.array([frames]), np.array([u]), settings).start
    numbers = clip_frames(start[:, None] + settings.offsets, 16, np.array([frames]))[0]
    assert np.all(np.diff(numbers, axis=1) == 1)
    assert np.all(np.diff(numbers[:, 0]) == {"intended": 24, "published": 11}[spacing])
    overlap = len(set(numbers[0].tolist()) & set(numbers[1].tolist()))
    assert overlap == {"intended": 0, "published": 5}[spacing]
