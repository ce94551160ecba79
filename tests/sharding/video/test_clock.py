"""Times of frames and the choice of frames for another rate, as pure arithmetic; with real files in test_odd_files."""

from collections.abc import Sequence
from fractions import Fraction
from itertools import accumulate
from math import ceil

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pclkd.sharding.video.clock import even_times, keep, settled_rate

rates = st.fractions(min_value=Fraction(1, 10), max_value=240, max_denominator=1001)
stays = st.lists(st.integers(0, 1000), min_size=1, max_size=12)
units = st.sampled_from([Fraction(1, 1000), Fraction(1, 600), Fraction(1001, 30_000)])


def on_screen(ends: list[Fraction], rate: Fraction) -> list[int]:
    """The frame on screen at each tick, found tick by tick from what time each frame goes."""
    shown = []
    while (time := len(shown) / rate) < ends[-1]:
        shown.append(next(index for index, end in enumerate(ends) if time < end))
    return shown


def kept(
    ends: Sequence[int], rate: Fraction, unit: Fraction, limit: int = 0, slack: Fraction = Fraction(0)
) -> list[int]:
    return [index for index, copies in keep(enumerate(ends), rate, limit, unit, slack) for _ in range(copies)]


@given(stays, rates, units)
def test_kept_frames_are_those_on_screen_at_each_tick(lengths: list[int], rate: Fraction, unit: Fraction) -> None:
    ends = list(accumulate(lengths))
    assert kept(ends, rate, unit) == on_screen([end * unit for end in ends], rate)


@given(st.integers(1, 12), rates, rates)
def test_number_kept_of_a_constant_rate(frames: int, source: Fraction, rate: Fraction) -> None:
    rate = min(rate, 50 * source)
    found = kept(range(1, frames + 1), rate, 1 / source)
    assert len(found) == ceil(frames * rate / source)
    assert found == [int(tick * source / rate) for tick in range(len(found))]


@given(stays, st.sampled_from([Fraction(0), Fraction(5), Fraction(60)]), st.integers(1, 40))
def test_a_limit_cuts_the_end_off(lengths: list[int], rate: Fraction, limit: int) -> None:
    ends, unit = list(accumulate(lengths)), Fraction(1, 1000)
    assert kept(ends, rate, unit, limit) == kept(ends, rate, unit)[:limit]


def test_nothing_is_read_beyond_the_limit() -> None:
    frames = ((index, index + 1) for index in range(100))
    assert list(keep(frames, Fraction(10), 3, Fraction(1, 25))) == [(0, 1), (2, 1), (5, 1)]
    assert next(frames)[0] == 6


def test_stamps_in_milliseconds_keep_the_frames_that_exact_ones_keep() -> None:
    """30 frames a second as Matroska has them; without slack a third of the frames would come twice."""
    rounded = [round(1000 * Fraction(index, 30)) for index in range(1, 301)]
    for rate in map(Fraction, (30, 15, 10, 7, 60)):
        found = kept(rounded, rate, Fraction(1, 1000), slack=Fraction(1, 2000))
        assert found == kept(range(1, 301), rate, Fraction(1, 30))
    assert kept(rounded, Fraction(30), Fraction(1, 1000)) != list(range(300))


@pytest.mark.parametrize(
    ("times", "announced", "expected"),
    [
        ([0, 1 / 25], 25, (25, True)),
        ([index / 25 for index in range(9)], 25, (25, True)),
        ([round(index / 30, 3) for index in range(9)], 30, (30, True)),
        ([round(index / 30, 3) for index in range(91)], 1000, (30.0, True)),
        ([index * 1001 / 30000 for index in range(9)], 30, (30, True)),
        ([0, 1, 2, 5], 1, (0.6, False)),
        ([0, 0, 0], 7, (7, True)),
        ([], 0, (0, True)),
    ],
)
def test_the_rate_is_what_frames_do(times: list[float], announced: float, expected: tuple[float, bool]) -> None:
    assert settled_rate(times, announced) == expected


def test_even_times() -> None:
    assert even_times(4, 2).tolist() == [0, 0.5, 1, 1.5]
    assert np.isnan(even_times(3, 0)).all()
