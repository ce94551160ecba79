"""Which frames of a video are kept at another frame rate, by their order alone.

Frame `i` of a video at `r` frames a second is on screen from i/r to (i+1)/r seconds. Frame `k` of the wanted `f` frames
a second is what is on screen at k/f seconds:

    source, r = 25      |0   |1   |2   |3   |4   |        i <= k * r / f < i + 1
    wanted, f = 10      0         1         2             keeps 0, 2 (at 2.5), 5, ...
"""

import math
from collections.abc import Iterable, Iterator
from fractions import Fraction
from typing import TypeVar

__all__ = ["copies_of", "keep"]

ItemT = TypeVar("ItemT")


def copies_of(index: int, source_rate: Fraction, rate: Fraction) -> int:
    """Return how often the frame at `index` is kept: 0 or 1 going down in rate, 1 or more going up.

    Over the first n frames these add up to ceil(n * rate / source_rate), and frame 0 is always kept.
    """
    step = rate / source_rate
    return math.ceil((index + 1) * step) - math.ceil(index * step)


def keep(items: Iterable[ItemT], source_rate: Fraction, rate: Fraction, limit: int) -> Iterator[tuple[ItemT, int]]:
    """Give the frames to keep, each with its number of copies, `limit` at most in all (0: no limit).

    `rate` 0 keeps every frame once, and `source_rate` is not looked at. Nothing is asked of `items` once the limit is
    reached.
    """
    kept = 0
    for index, item in enumerate(items):
        copies = copies_of(index, source_rate, rate) if rate else 1
        if limit:
            copies = min(copies, limit - kept)
        if copies:
            yield item, copies
            kept += copies
        if limit and kept == limit:
            return
