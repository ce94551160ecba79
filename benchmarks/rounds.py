"""Fair timing on a machine that is never quite still: cases take turns, and ratios are taken within a turn.

A round times every case once. Slow drifts (heat, a neighbour's job) then hit all cases alike, so the ratio of two cases
within a round is steadier than either rate; the median over rounds forgets a round that was disturbed.
"""

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

__all__ = ["Summary", "Work", "interleave", "summarise"]

Work = Callable[[], float]
"""Does a piece of work and says how much it was, in units such as clips."""


@dataclass(frozen=True)
class Summary:
    """The rates of a case over the rounds, in units a second.

    Attributes:
        median, low, high: over the rounds.
        spread_pct: interquartile range, percent of the median.
        ratio: this rate over the base case's, median of the rounds' ratios.
    """

    median: float
    low: float
    high: float
    spread_pct: float
    ratio: float


def interleave(
    cases: Mapping[str, Work],
    *,
    rounds: int,
    warmup: int,
    min_seconds: float,
    on_round: Callable[[int], None] = lambda _: None,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, list[float]]:
    """Time the cases in turns; every second round runs backwards, so that no case always follows the same one.

    Args:
        cases: work by name. A case does its work over and over until its turn has lasted `min_seconds`.
        rounds: measured rounds, at least 1.
        warmup: rounds before those; not measured, and each case does its work once.
        min_seconds: shortest turn.
        on_round: called with the number of measured rounds that are through.
        clock: seconds.

    Returns:
        Units a second by case, one for each round.

    Raises:
        ValueError: fewer than one round.
    """
    if rounds < 1:
        raise ValueError(f"{rounds} rounds")
    names = list(cases)
    for _ in range(warmup):
        for name in names:
            cases[name]()
    rates: dict[str, list[float]] = {name: [] for name in names}
    for number in range(rounds):
        for name in names if number % 2 == 0 else reversed(names):
            rates[name].append(_time(cases[name], min_seconds, clock))
        on_round(number + 1)
    return rates


def summarise(rates: Mapping[str, Sequence[float]], base: str) -> dict[str, Summary]:
    """Sum up rates; `base` is the case that ratios refer to, and every case has one rate a round.

    Raises:
        ValueError: no such base, or cases with different numbers of rounds.
    """
    if base not in rates:
        raise ValueError(f"base {base!r} is none of {', '.join(rates)}")
    return {
        name: Summary(
            median=statistics.median(values),
            low=min(values),
            high=max(values),
            spread_pct=100 * _interquartile_range(values) / statistics.median(values),
            ratio=statistics.median(value / reference for value, reference in zip(values, rates[base], strict=True)),
        )
        for name, values in rates.items()
    }


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
