from statistics import median

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pclkd.benchmarks.measuring.bounds import nearest_bounds, tell_bounds

RATES = st.lists(st.floats(0.1, 1e6), min_size=5, max_size=5)


@given(st.fixed_dictionaries(dict.fromkeys(("ours", "a", "b", "c"), RATES)))
def test_the_nearest_bound_is_the_slowest_one(rates: dict[str, list[float]]) -> None:
    bound = nearest_bounds(rates, {"ours": ["a", "b", "c"], "a": []})["ours"]
    assert median(rates[bound.name]) == min(median(rates[name]) for name in "abc")
    assert {bound.name, *bound.others} == set("abc")
    shares = sorted(100 * rates["ours"][turn] / rates[bound.name][turn] for turn in range(5))
    assert bound.reached_pct == pytest.approx(shares[2])


def test_which_bound_is_nearer_is_told_where_there_are_several() -> None:
    rates = {"ours": [30.0], "theirs": [10.0], "a": [100.0], "b": [40.0]}
    assert tell_bounds(rates, {"ours": ["a", "b"], "theirs": ["a"]}) == [
        "b is the nearer bound: ours reaches 75 % of it"
    ]
