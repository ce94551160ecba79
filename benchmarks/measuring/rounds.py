"""Fair timing on a machine that is never quite still: cases take turns, and ratios are taken within a turn.

A round times every case once. Slow drifts (heat, a neighbour's job) then hit all cases alike, so the ratio of two cases
within a round is steadier than either rate; the median over rounds forgets a round that was disturbed.
"""

import math
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

__all__ = [
    "Interval",
    "Summary",
    "Work",
    "interleave",
    "median_interval",
    "round_numbers",
    "summarise",
]

_LEAST_ROUNDS = 3
"""Measured however little time there is: two values have no median worth the name."""
_CONFIDENCE = 0.95

Work = Callable[[], float]
"""Does a piece of work and says how much it was, in units such as clips."""


@dataclass(frozen=True)
class Interval:
    """Where the median of all rounds that could have been measured lies.

    Attributes:
        low, high: the bounds.
        confidence_pct: how often such bounds hold the true median, in percent; below 95 where there were too few rounds
            for more.
    """

    low: float
    high: float
    confidence_pct: float


@dataclass(frozen=True)
class Summary:
    """The rates of a case over the rounds, in units a second.

    Attributes:
        median: over the rounds.
        interval: of the median.
        spread_pct: interquartile range, percent of the median.
        ratio: this rate over the base case's, median of the rounds' ratios.
        ratio_interval: of that median.
    """

    median: float
    interval: Interval
    spread_pct: float
    ratio: float
    ratio_interval: Interval


def interleave(
    cases: Mapping[str, Work],
    *,
    rounds: int,
    warmup: int,
    min_seconds: float,
    budget_s: float | None = None,
    on_round: Callable[[int, dict[str, list[float]]], None] = lambda *_: None,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, list[float]]:
    """Time the cases in turns; every second round runs backwards, so that no case always follows the same one.

    Args:
        cases: work by name. A case does its work over and over until its turn has lasted `min_seconds`.
        rounds: measured rounds, at least 1; with a budget at most.
        warmup: rounds before those; not measured, and each case does its work once.
        min_seconds: shortest turn.
        budget_s: time for warm-up and rounds together; see `round_numbers`.
        on_round: called with the number of measured rounds that are through, and what it would return by now.
        clock: seconds.

    Returns:
        Units a second by case, one for each round.

    Raises:
        ValueError: fewer than one round.
    """
    if rounds < 1:
        raise ValueError(f"{rounds} rounds")
    names = list(cases)
    began = clock()
    for _ in range(warmup):
        for name in names:
            cases[name]()
    left = None if budget_s is None else budget_s - (clock() - began)
    rates: dict[str, list[float]] = {name: [] for name in names}
    for number in round_numbers(rounds, budget_s=left, clock=clock):
        for name in names if number % 2 == 0 else reversed(names):
            rates[name].append(_time(cases[name], min_seconds, clock))
        on_round(number + 1, rates)
    return rates


def round_numbers(
    rounds: int, *, budget_s: float | None = None, clock: Callable[[], float] = time.perf_counter
) -> Iterator[int]:
    """Numbers of the rounds to be measured, from 0 on; the caller measures one before it asks for the next.

    Args:
        rounds: as many, or with a budget at most.
        budget_s: seconds from now on. They end after a round when another one as long as that would not fit any more,
            but not before three of them.
        clock: seconds.
    """
    began = clock()
    for number in range(rounds):
        since = clock()
        yield number
        now = clock()
        if budget_s is not None and number + 1 >= _LEAST_ROUNDS and (now - began) + (now - since) > budget_s:
            return


def summarise(rates: Mapping[str, Sequence[float]], base: str) -> dict[str, Summary]:
    """Sum up rates; `base` is the case that ratios refer to, and every case has one rate a round.

    Raises:
        ValueError: no such base, or cases with different numbers of rounds.
    """
    if base not in rates:
        raise ValueError(f"base {base!r} is none of {', '.join(rates)}")
    summaries = {}
    for name, values in rates.items():
        ratios = [value / reference for value, reference in zip(values, rates[base], strict=True)]
        summaries[name] = Summary(
            median=statistics.median(values),
            interval=median_interval(values),
            spread_pct=100 * _interquartile_range(values) / statistics.median(values),
            ratio=statistics.median(ratios),
            ratio_interval=median_interval(ratios),
        )
    return summaries


def median_interval(values: Sequence[float]) -> Interval:
    """The narrowest pair of order statistics that holds the true median in at least 95 % of all cases.

    Each value is below the median with chance 1/2, whatever the distribution, so the k-th smallest of n values is above
    it only if fewer than k are below: with sum_{i<k} C(n, i) / 2^n on either side. Fewer than 6 values cannot reach
    95 %; the whole range is taken then, and the interval tells how sure it is. (David and Nagaraja, Order Statistics,
    section 7.1.)

    Raises:
        ValueError: no values.
    """
    n = len(values)
    if not n:
        raise ValueError("the median of no values")
    ranked = sorted(values)
    rank = 1
    while 2 * rank < n and _confidence(n, rank + 1) >= _CONFIDENCE:
        rank += 1
    return Interval(ranked[rank - 1], ranked[n - rank], 100 * _confidence(n, rank))


def _confidence(n: int, rank: int) -> float:
    """How often the true median lies between the `rank`-th smallest and the `rank`-th largest of n values."""
    return float(1 - 2 * sum(math.comb(n, i) for i in range(rank)) / 2**n)


def _time(work: Work, min_seconds: float, clock: Callable[[], float]) -> float:
    done = 0.0
    began = clock()
    while True:
        done += work()
        elapsed = clock() - began
        if elapsed >= min_seconds and elapsed > 0:
            return done / elapsed


def _interquartile_range(values: Sequence[float]) -> float:
    if len(values) < 2:
        return 0.0
    low, _, high = statistics.quantiles(values, n=4, method="inclusive")
    return high - low
