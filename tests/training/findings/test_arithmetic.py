import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from pclkd.training.findings.arithmetic import (
    CONFIDENCE,
    FEWEST,
    POWER,
    Curve,
    Question,
    average_until,
    estimate,
    final_accuracy,
    first_passing,
)

QUARTERS = st.integers(0, 400).map(lambda quarters: quarters / 4)  # sums of quarters are exact
CURVES = st.lists(QUARTERS, min_size=1, max_size=14)
GAIN = Question("gain", "points", 1, "above", 0.0, 1.0)
HALF = Question("ratio", "", 2, "below", 0.5)


def curve(values, epochs=None):
    rows = np.atleast_2d(np.array(values, float))
    return Curve(np.arange(rows.shape[1], dtype=float) if epochs is None else np.array(epochs, float), rows)


def passing(values, goal):
    return first_passing(curve(values), np.array([goal], float))[0]


@given(CURVES, QUARTERS)
def test_it_passes_where_every_stretch_from_there_on_has_the_goal_as_its_mean(values, goal):
    stretches = [
        all(np.mean(values[start:end]) >= goal for end in range(start + 1, len(values) + 1))
        for start in range(len(values))
    ]
    assert passing(values, goal) == (stretches.index(True) if True in stretches else math.inf)


@given(CURVES, QUARTERS)
def test_it_passes_where_the_isotonic_fit_reaches_the_goal(values, goal):
    fit = [  # by the max-min formula
        max(min(np.mean(values[s : e + 1]) for e in range(at, len(values))) for s in range(at + 1))
        for at in range(len(values))
    ]
    reached = [at for at, level in enumerate(fit) if level >= goal - 1e-9]
    assert passing(values, goal) == (reached[0] if reached else math.inf)


@given(CURVES, QUARTERS, QUARTERS)
def test_a_higher_curve_passes_no_later_and_a_higher_goal_no_earlier(values, goal, lift):
    assert passing([value + lift for value in values], goal) <= passing(values, goal)
    assert passing(values, goal + lift) >= passing(values, goal)
    assert passing([value + lift for value in values], goal + lift) == passing(values, goal)


@given(CURVES, QUARTERS)
def test_it_is_censored_just_where_no_stretch_at_the_end_has_the_goal_as_its_mean(values, goal):
    reached = any(np.mean(values[start:]) >= goal for start in range(len(values)))
    assert math.isfinite(passing(values, goal)) == reached


@given(st.lists(st.floats(0, 100), min_size=1, max_size=40))
def test_every_run_passes_its_own_final_accuracy(values):
    own = curve(values)
    assert math.isfinite(first_passing(own, final_accuracy(own))[0])


def test_one_lucky_value_passes_nothing_and_one_bad_one_takes_nothing_back():
    assert passing([10, 90, 20, 30, 80, 85, 84, 86], 80) == 4
    assert passing([10, 20, 85, 88, 72, 86, 84, 86], 80) == 2


def test_measurements_may_be_epochs_apart():
    assert first_passing(curve([1, 2, 3, 4], [0, 5, 10, 12]), np.array([2.5])) == [10]


def test_rows_of_draws_are_taken_one_by_one():
    rows, goals = [[1, 2, 3, 4], [4, 4, 4, 4], [0, 0, 0, 0]], np.array([2.5, 2.5, 2.5])
    assert first_passing(curve(rows), goals).tolist() == [2, 0, math.inf]
    assert first_passing(curve(rows[:1]), np.array([1.5, 9])).tolist() == [1, math.inf]


@given(st.integers(1, 60))
def test_the_final_accuracy_is_the_mean_of_the_last_tenth(count):
    last = -(-count // 10)
    assert final_accuracy(curve(np.arange(count)))[0] == np.mean(range(count - last, count))


def test_the_area_of_straight_lines_is_theirs_between_measurements_too():
    line = curve([0, 30, 50], [0, 6, 10])  # 5 points an epoch
    assert average_until(line, 10)[0] == pytest.approx(25)
    assert average_until(line, 8)[0] == pytest.approx(20)
    assert average_until(curve([[7, 7, 7], [1, 1, 1]]), 1.5) == pytest.approx([7, 1])
    assert average_until(curve([42]), 0)[0] == 42


@pytest.mark.parametrize("count", [3, 5, 8])
def test_intervals_of_means_hold_the_truth_as_often_as_they_say(count):
    random, held = np.random.default_rng(count), 0
    for _ in range(2000):
        found = estimate([np.array([value]) for value in random.normal(2, 3, count)], GAIN)
        held += found.low <= 2 <= found.high
    assert abs(held / 2000 - CONFIDENCE) < 0.015


@pytest.mark.parametrize("count", [3, 5, 8])
def test_intervals_of_medians_hold_the_truth_about_as_often_as_they_say(count):
    random, held = np.random.default_rng(count), 0
    for _ in range(400):
        found = estimate([np.array([value]) for value in random.normal(2, 3, count)], HALF)
        held += found.low <= 2 <= found.high
    # Of three values the range is all that a bootstrap has; theirs holds the truth 3 times in 4.
    least = {3: 0.68, 5: 0.87, 8: 0.91}[count]
    assert least < held / 400 <= 0.99


@pytest.mark.parametrize("shared", [0.0, 0.3])
def test_test_videos_are_counted_once(shared):
    """128 videos, half of them told right; a taught run tells some otherwise, by luck or, as far as shared, always."""
    random, held, widths, means = np.random.default_rng(7), 0, [], []
    draws = np.vstack([np.ones(128), random.multinomial(128, np.full(128, 1 / 128), size=400)]) / 128
    for _ in range(400):
        always = shared * random.choice([-1.0, 1.0], 128)  # the same sign in every repetition
        luck = random.choice([-1.0, 0.0, 1.0], (5, 128), p=[0.2, 0.6, 0.2])
        found = estimate([100 * draws @ (always + one) for one in luck], GAIN)
        held += found.low <= 0 <= found.high
        widths.append(found.high - found.low)
        means.append(found.value)
    assert 0.93 < held / 400 < 0.995
    # As wide as Student's of the error that the means really have, and not the double of it.
    assert np.mean(widths) / (2 * stats.t.ppf(0.975, 4) * np.std(means)) == pytest.approx(0.97, abs=0.12)


@pytest.mark.parametrize(
    ("values", "question", "verdict"),
    [
        ([2, 3, 2, 4, 3], GAIN, "held"),
        ([0.5, 0.4, 0.6, 0.5, 0.5], GAIN, "held"),  # small, but there
        ([-2, -3, -2, -1, -2], GAIN, "did not hold"),
        ([0.3, -0.2, 0.1, -0.3, 0.2], GAIN, "did not hold"),  # whatever it is, it is less than a point
        ([5, -4, 3, -1, 2], GAIN, "not decided"),
        ([2, 3, 2, 4], GAIN, "not decided"),  # too few
        ([0.2, 0.3, 0.5, 0.4, 0.3], HALF, "held"),
        ([0.6, 0.7, math.inf, 0.9, math.inf], HALF, "did not hold"),
        ([0.2, 0.3, math.inf, 0.4, 0.3], HALF, "not decided"),
    ],
)
def test_verdicts(values, question, verdict):
    assert estimate([np.array([float(value)]) for value in values], question).verdict == verdict


def test_medians_know_what_is_censored():
    found = estimate([np.array([value]) for value in (0.2, math.inf, 0.4, math.inf, 0.3)], HALF)
    assert (found.value, found.low, found.high) == (0.4, 0.2, math.inf)
    assert estimate([np.array([math.inf])] * 6, HALF).value == math.inf
    assert estimate([], HALF) is None


@given(st.lists(st.floats(-5, 5), min_size=1, max_size=60))
@settings(max_examples=40)
def test_an_interval_of_a_mean_is_students(values):
    found = estimate([np.array([value]) for value in values], GAIN)
    spread = np.std(values, ddof=1) / math.sqrt(len(values)) if len(values) > 1 else 0.0
    half = stats.t.ppf(0.975, max(1, len(values) - 1)) * spread
    assert (found.low, found.high) == pytest.approx((found.value - half, found.value + half), abs=1e-6)


@given(st.lists(st.floats(-5, 5), min_size=1, max_size=9))
@settings(max_examples=40)
def test_an_interval_of_a_median_has_its_value_and_lies_within_the_values(values):
    found = estimate([np.array([value]) for value in values], HALF)
    assert min(values) - 1e-9 <= found.low <= found.value + 1e-9 <= found.high + 2e-9 <= max(values) + 3e-9


def test_what_test_videos_do_to_all_repetitions_widens_it():
    alone = [np.array([value]) for value in (1.0, 2.0, 1.5, 2.5, 2.0)]
    moves = np.append(0, np.random.default_rng(1).normal(0, 3, 401))  # the same for all repetitions
    moved = [value + moves for value in alone]
    narrow, wide = estimate(alone, GAIN), estimate(moved, GAIN)
    assert wide.value == narrow.value
    assert wide.high - wide.low > 2 * (narrow.high - narrow.low)


def test_as_many_repetitions_as_it_says_decide_as_often_as_it_says():
    values = np.array([0.0, 3.0, -2.0, 4.0, 0.5])  # mean 1.1: above nothing or below a point, above is nearer
    needed = estimate([np.array([value]) for value in values], GAIN).needed
    random = np.random.default_rng(3)
    samples = random.normal(values.mean(), values.std(ddof=1), (4000, needed))
    low = samples.mean(1) + stats.t.ppf(0.025, needed - 1) * samples.std(1, ddof=1) / math.sqrt(needed)
    assert abs((low > 0).mean() - POWER) < 0.04


def test_no_repetition_takes_the_error_of_the_test_videos_away():
    seeds = np.array([0.0, 3.0, -2.0, 4.0, 0.5])
    videos = np.random.default_rng(3).standard_normal(401)  # the same for all repetitions

    def needed(error):
        moved = [np.append(value, value + error * videos) for value in seeds]
        return estimate(moved, GAIN).needed

    assert needed(0) < needed(0.3) < 1000
    assert needed(1.5) is None  # more than the mean of 1.1


def test_seeds_that_would_decide_a_median():
    def needed(passed, failed):
        return estimate([np.array([0.3])] * passed + [np.array([0.8])] * failed, HALF).needed

    assert needed(3, 0) == FEWEST
    assert needed(2, 2) is None
    assert needed(4, 1) < needed(3, 2) < 250
    # A sign test of that many decides about as often as it says.
    count, share = needed(4, 1), 0.8
    fewest = next(k for k in range(count + 1) if stats.binomtest(k, count).pvalue < 0.05 and k > count / 2)
    assert stats.binom.sf(fewest - 1, count, share) > POWER - 0.15


def test_a_single_repetition_has_the_interval_of_its_test_videos():
    asked = Question("gain", "points", 1, "above", 0.0, 1.0)
    draws = 10 + 2 * np.random.default_rng(3).standard_normal(401)
    found = estimate([np.concatenate([[10.0], draws])], asked)
    assert found.value == 10 and found.verdict == "not decided" and found.repetitions == 1
    assert (found.low, found.high) == pytest.approx(tuple(np.quantile(draws, [0.025, 0.975])), abs=0.2)
    assert found.low < 7 and found.high > 13
    exact = estimate([np.array([10.0])], asked)  # no errors were recorded
    assert (exact.low, exact.high) == (10, 10)
