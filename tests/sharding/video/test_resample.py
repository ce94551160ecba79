from fractions import Fraction
from math import ceil

from hypothesis import given
from hypothesis import strategies as st

from pclkd.sharding.video.frames import copies_of, keep

rates = st.fractions(min_value=Fraction(1, 10), max_value=240, max_denominator=1001)


def on_screen(frames: int, source_rate: Fraction, rate: Fraction) -> list[int]:
    """The frame on screen at each tick, found tick by tick from what time each frame begins."""
    begins = [Fraction(index) / source_rate for index in range(frames + 1)]
    shown = []
    tick = 0
    while (time := Fraction(tick) / rate) < begins[-1]:
        shown.append(max(index for index in range(frames) if begins[index] <= time))
        tick += 1
    return shown


@given(st.integers(1, 12), rates, rates)
def test_kept_frames_are_those_on_screen_at_each_tick(frames: int, source_rate: Fraction, rate: Fraction) -> None:
    rate = min(rate, 50 * source_rate)
    kept = [index for index, copies in keep(range(frames), source_rate, rate, 0) for _ in range(copies)]
    assert kept == on_screen(frames, source_rate, rate)


@given(st.integers(1, 10_000), rates, rates)
def test_number_of_kept_frames(frames: int, source_rate: Fraction, rate: Fraction) -> None:
    last = range(max(0, frames - 50), frames)
    before = ceil(last[0] * rate / source_rate)
    total = before + sum(copies_of(index, source_rate, rate) for index in last)
    assert total == ceil(frames * rate / source_rate)


@given(st.integers(0, 30), rates, st.sampled_from([Fraction(0), Fraction(5), Fraction(60)]), st.integers(1, 40))
def test_a_limit_cuts_the_end_off(frames: int, source_rate: Fraction, rate: Fraction, limit: int) -> None:
    def run(limit: int) -> list[int]:
        return [index for index, copies in keep(range(frames), source_rate, rate, limit) for _ in range(copies)]

    assert run(limit) == run(0)[:limit]


def test_nothing_is_read_beyond_the_limit() -> None:
    frames = iter(range(100))
    assert list(keep(frames, Fraction(25), Fraction(10), 3)) == [(0, 1), (2, 1), (5, 1)]
    assert next(frames) == 6


def test_same_rate_keeps_every_frame_once() -> None:
    assert [copies_of(index, Fraction(30000, 1001), Fraction(30000, 1001)) for index in range(500)] == [1] * 500
    # A tenth as a float is a little more than a tenth; written as a decimal number it is exact.
    assert sum(copies_of(index, Fraction(25), Fraction("0.1")) for index in range(250)) == 1
