"""How close a case comes to what bounds it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median

__all__ = ["Bound", "nearest_bounds", "tell_bounds"]


@dataclass(frozen=True)
class Bound:
    """The nearest of a case's bounds.

    Attributes:
        name: the bounding case.
        reached_pct: the case's rate as percent of it in the same round, median over the rounds.
        others: bounding cases that leave more room.
    """

    name: str
    reached_pct: float
    others: tuple[str, ...] = ()


def nearest_bounds(
    rates: Mapping[str, Sequence[float]], bounds: Mapping[str, Sequence[str]], unit: str | Mapping[str, str] = ""
) -> dict[str, Bound]:
    """By case the bound with the lowest median.

    Args:
        rates: units a second by case, one for each round.
        bounds: by case the names of those that it cannot be faster than.
        unit: of all cases, or of each.

    Raises:
        ValueError: a case that is not in `rates`, or a bound in another unit.
    """
    found = {}
    for name, limits in bounds.items():
        for known in (name, *limits):
            if known not in rates:
                raise ValueError(f"{known!r} is none of {', '.join(rates)}")
            if not isinstance(unit, str) and unit[known] != unit[name]:
                raise ValueError(f"{name} is in {unit[name]}, its bound {known} in {unit[known]}")
        if not limits:
            continue
        nearest = min(limits, key=lambda limit: median(rates[limit]))
        reached = 100 * median(ours / limit for ours, limit in zip(rates[name], rates[nearest], strict=True))
        found[name] = Bound(nearest, reached, tuple(limit for limit in limits if limit != nearest))
    return found


def tell_bounds(rates: Mapping[str, Sequence[float]], bounds: Mapping[str, Sequence[str]]) -> list[str]:
    """A line for each case that has several bounds: which one is nearer, and how close it comes.

    Raises:
        ValueError: a case that is not in `rates`.
    """
    return [
        f"{bound.name} is the nearer bound: {name} reaches {bound.reached_pct:.0f} % of it"
        for name, bound in nearest_bounds(rates, bounds).items()
        if bound.others
    ]
