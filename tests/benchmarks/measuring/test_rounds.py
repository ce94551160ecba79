import itertools
import statistics

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pclkd.benchmarks.measuring.rounds import interleave, median_interval, summarise

RATES = st.integers(1, 6).flatmap(
    lambda rounds: st.lists(st.lists(st.floats(0.1, 1e6), min_size=rounds, max_size=rounds), min_size=1, max_size=4)
)


class Bench:
    """Cases that take a known time on a clock of their own, and a record of who was called."""

    def __init__(self):
        self.now = 0.0
        self.calls = []

    def clock(self):
        return self.now

    def case(self, name, seconds, units):
        durations = itertools.cycle(seconds)

        def work():
            self.calls.append(name)
            self.now += next(durations)
            return units

        return work


def test_rates_are_units_over_seconds_of_whole_turns():
    bench = Bench()
    cases = {"quick": bench.case("quick", [0.25], 3), "slow": bench.case("slow", [2.0], 8)}
    rates = interleave(cases, rounds=2, warmup=0, min_seconds=1.0, clock=bench.clock)
    assert rates == {"quick": [12.0, 12.0], "slow": [4.0, 4.0]}
    # 4 x 0.25 s fill a turn; the second round runs backwards.
    assert bench.calls == ["quick"] * 4 + ["slow"] * 2 + ["quick"] * 4


def test_warmup_is_not_measured():
    bench = Bench()
    told = []
    first = bench.case("a", [100.0, 1.0, 1.0], 5)

    def on_round(number, rates):
        told.append((number, list(rates["a"])))

    rates = interleave({"a": first}, rounds=2, warmup=1, min_seconds=0, clock=bench.clock, on_round=on_round)
    assert rates == {"a": [5.0, 5.0]}
    assert told == [(1, [5.0]), (2, [5.0, 5.0])]


def test_no_rounds_are_refused():
    with pytest.raises(ValueError, match="0 rounds"):
        interleave({"a": lambda: 1.0}, rounds=0, warmup=0, min_seconds=0)


@pytest.mark.parametrize(
    ("budget", "rounds", "measured"),
    [
        (None, 5, 5),
        (100.0, 5, 5),  # the most, though there is time for more
        (0.0, 9, 3),  # a budget that is used up before the first round still gives a median
        (0.0, 2, 2),  # whoever asks for less gets less
        (13.9, 9, 3),  # 2 s of warm-up; a fourth round would end at 14
        (14.0, 9, 4),
        (16.9, 9, 4),
        (17.0, 9, 5),
    ],
)
def test_rounds_end_when_another_one_would_not_fit(budget, rounds, measured):
    bench, told = Bench(), []
    # Warm-up: 2 s. Each round: 1 s of a and 2 s of b.
    cases = {"a": bench.case("a", [1.0], 5), "b": bench.case("b", [1.0] + [2.0] * 20, 4)}

    def on_round(number, _):
        told.append(number)

    rates = interleave(
        cases, rounds=rounds, warmup=1, min_seconds=0, budget_s=budget, clock=bench.clock, on_round=on_round
    )
    assert {name: len(values) for name, values in rates.items()} == {"a": measured, "b": measured}
    assert told == list(range(1, measured + 1))
    assert bench.now == 2 + 3 * measured


def test_a_round_that_is_slow_counts_with_its_own_length():
    """Three rounds of 1, 1 and 4 s: another one like the last does not fit 9 s, one like the first would."""
    bench = Bench()
    slow = bench.case("a", [1.0, 1.0, 4.0, 1.0, 1.0], 1)
    assert len(interleave({"a": slow}, rounds=9, warmup=0, min_seconds=0, budget_s=9, clock=bench.clock)["a"]) == 3


@given(RATES)
def test_summary_against_numpy(table):
    rates = {f"case{i}": values for i, values in enumerate(table)}
    found = summarise(rates, "case0")
    for name, values in rates.items():
        low, middle, high = np.percentile(values, [25, 50, 75])
        assert found[name].median == pytest.approx(middle)
        assert found[name].spread_pct == pytest.approx(100 * (high - low) / middle, abs=1e-6)
        assert found[name].interval == median_interval(values)
        ratios = np.array(values) / np.array(rates["case0"])
        assert found[name].ratio == pytest.approx(np.median(ratios))
        assert found[name].ratio_interval == median_interval(ratios.tolist())
    assert found["case0"].ratio == 1


@given(st.lists(st.floats(0.1, 10), min_size=3, max_size=9), st.floats(0.1, 10))
def test_a_drift_that_hits_both_cases_leaves_the_ratio(drift, factor):
    base = [100 * value for value in drift]
    found = summarise({"base": base, "case": [factor * value for value in base]}, "base")
    assert found["case"].ratio == pytest.approx(factor)


def test_ratios_are_taken_within_rounds():
    rates = {"base": [1.0, 10.0, 100.0], "case": [3.0, 20.0, 100.0]}
    assert summarise(rates, "base")["case"].ratio == 2.0  # of 3, 2, 1
    assert statistics.median(rates["case"]) / statistics.median(rates["base"]) == 2.0
    skewed = {"base": [1.0, 10.0, 100.0], "case": [50.0, 5.0, 50.0]}
    assert summarise(skewed, "base")["case"].ratio == 0.5  # of 50, 0.5, 0.5; the medians' ratio would be 5


def test_unknown_base_and_uneven_rounds_are_refused():
    with pytest.raises(ValueError, match="'x' is none of a"):
        summarise({"a": [1.0]}, "x")
    with pytest.raises(ValueError):
        summarise({"a": [1.0, 2.0], "b": [1.0]}, "a")


@pytest.mark.parametrize(
    ("n", "rank", "confidence"),
    # From the tables of the sign test: 1 - 2 P(Binomial(n, 1/2) < rank).
    [(1, 1, 0.0), (3, 1, 75.0), (5, 1, 93.75), (6, 1, 96.875), (8, 1, 99.219), (9, 2, 96.094), (20, 6, 95.861)],
)
def test_interval_of_the_median_against_tables(n, rank, confidence):
    values = list(range(100, 100 + n))
    found = median_interval(values[::2] + values[1::2])
    assert (found.low, found.high) == (values[rank - 1], values[-rank])
    assert found.confidence_pct == pytest.approx(confidence, abs=0.001)


@pytest.mark.parametrize("n", [6, 7, 15])
def test_interval_of_the_median_holds_it_as_often_as_it_says(n):
    rng = np.random.default_rng(n)
    draws = rng.lognormal(mean=0.0, sigma=1.0, size=(4000, n))  # the true median is 1
    found = [median_interval(row.tolist()) for row in draws]
    held = 100 * np.mean([interval.low <= 1.0 <= interval.high for interval in found])
    assert found[0].confidence_pct >= 95
    assert held == pytest.approx(found[0].confidence_pct, abs=1.5)  # 4 standard errors


def test_interval_of_no_values_is_refused():
    with pytest.raises(ValueError, match="no values"):
        median_interval([])
