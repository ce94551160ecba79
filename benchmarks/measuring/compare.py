"""Two results of one benchmark: what changed beyond the noise."""

from dataclasses import dataclass
from typing import Literal

from pclkd.benchmarks.measuring.result import BenchmarkResult
from pclkd.sharding.common.console import text_columns
from pclkd.sharding.common.errors import InputError

__all__ = ["Change", "compare_results", "show_changes"]

Verdict = Literal["faster", "slower", "within noise"]
# Units of which less is better; of all others (rates) more is.
_LESS_IS_BETTER = frozenset({"s", "ms", "MiB", "GiB"})


@dataclass(frozen=True)
class Change:
    """One case of both results.

    Attributes:
        name: of the case.
        unit: of the medians.
        before, after: medians.
        factor: how many times as good the second is: above 1 is better, whatever the unit.
        verdict: faster or slower where the intervals of the medians do not touch.
    """

    name: str
    unit: str
    before: float
    after: float
    factor: float
    verdict: Verdict


def compare_results(before: BenchmarkResult, after: BenchmarkResult) -> list[Change]:
    """The cases that both have, in the order of the second.

    Raises:
        InputError: results of different benchmarks, or no case in common.
    """
    if before.benchmark != after.benchmark:
        raise InputError(
            f"a result of {before.benchmark} and one of {after.benchmark}", remedy="compare two of the same benchmark"
        )
    known = {(figure.name, figure.unit): figure for figure in before.results}
    changes = []
    for new in after.results:
        old = known.get((new.name, new.unit))
        if old is None:
            continue
        less = new.unit in _LESS_IS_BETTER
        verdict: Verdict = "within noise"
        if new.low > old.high:
            verdict = "slower" if less else "faster"
        elif new.high < old.low:
            verdict = "faster" if less else "slower"
        factor = old.median / new.median if less else new.median / old.median
        changes.append(Change(new.name, new.unit, old.median, new.median, factor, verdict))
    if not changes:
        raise InputError("the two results have no case in common", remedy="measure both with the same options")
    return changes


def show_changes(before: BenchmarkResult, after: BenchmarkResult, changes: list[Change]) -> str:
    """The changes as text, and in what machine, versions and settings the two differ."""
    rows = [["", "unit", "before", "after", "times as good", ""]]
    rows += [
        [
            change.name,
            change.unit,
            f"{change.before:.4g}",
            f"{change.after:.4g}",
            f"{change.factor:.3g}",
            change.verdict,
        ]
        for change in changes
    ]
    old, new = ({**result.settings, **result.env} for result in (before, after))
    differing = [
        f"- {name}: {old.get(name)} -> {new.get(name)}"
        for name in dict.fromkeys([*old, *new])
        if old.get(name) != new.get(name) and name != "date_utc"
    ]
    return "\n".join(
        [text_columns(rows), "", "faster or slower: the intervals of the medians do not touch", *differing]
    )
