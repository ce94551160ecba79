"""When each frame of a video is on screen, and which frames another rate takes.

Time is counted from the first frame. Time stamps tell it, exactly; containers without usable ones
(AVI above all: MEncoder wrote them out of order) are counted at the rate in their header.
"""

from collections.abc import Iterable, Iterator, Sequence
from fractions import Fraction
from math import lcm
from typing import TypeVar

import av
import numpy as np
import numpy.typing as npt

__all__ = ["Clock", "TimedFrame", "even_times", "keep", "settled_rate", "uneven_times"]

ItemT = TypeVar("ItemT")

TimedFrame = tuple[av.VideoFrame, int]
"""A frame and when it comes on screen, in units of its clock from the first one."""

# Stamps that go back by less are out of order; by more, and another recording begins in the same file.
_NEW_RECORDING_S = 1
# Stamps are rounded to the container's ticks: milliseconds in Matroska and FLV, 1/600 s in old QuickTime files.
_MOST_ROUNDING_S = Fraction(1, 1000)
_EVEN_S = 0.002
_SAME_RATE = 0.005


class Clock:
    """Times of the frames of one video, in the order in which the decoder gives them.

    They are whole numbers of a unit, so that they are exact and cost nothing.

    Args:
        rate: frames a second that the header announces; None if it does not.
        tick: unit of the time stamps, seconds.
        counted: whether frames are counted, because time stamps are of no use.

    Attributes:
        unit: of all times, seconds: a tick, or where frames are counted the time of a frame.
        slack: by how much a stamp can lie beside the time that it stands for, seconds.
    """

    def __init__(self, rate: Fraction | None, tick: Fraction, *, counted: bool) -> None:
        interval = 1 / rate if rate else tick
        self._counted = counted
        self.unit = interval if counted else tick
        exact = (interval / self.unit).denominator == 1
        self.slack = Fraction(0) if exact else min(tick / 2, _MOST_ROUNDING_S)
        self._interval = max(1, round(interval / self.unit))
        self._new_recording = _NEW_RECORDING_S / self.unit
        self._origin: int | None = None
        self._time = self._frames = self._lasts = 0

    def time_of(self, frame: av.VideoFrame, place: int) -> int:
        """Return when the next frame comes on screen; `place` is its number, with repeats that are not stored."""
        if self._counted:
            self._time = place
        else:
            self._time = self._by_stamp(frame)
            self._lasts = frame.duration or 0
        self._frames += 1
        return self._time

    def _by_stamp(self, frame: av.VideoFrame) -> int:
        following = self._time + self._interval if self._frames else 0
        stamp = frame.pts if frame.pts is not None else frame.dts
        if stamp is None:
            return following
        if self._origin is None:
            self._origin = stamp - following
        if self._time - (stamp - self._origin) >= self._new_recording:
            self._origin = stamp - following
        return max(self._time, stamp - self._origin)

    @property
    def end(self) -> int:
        """When the frame that was told last goes from the screen.

        A length of a single tick is what FFmpeg makes up where the file tells neither length nor rate; then it is on
        screen as long as the others are on average.
        """
        if self._counted or self._lasts > 1 or self._frames < 2:
            return self._time + max(self._lasts, 1)
        return self._time + max(1, round(self._time / (self._frames - 1)))


def keep(
    items: Iterable[tuple[ItemT, int]],
    rate: Fraction,
    limit: int,
    unit: Fraction = Fraction(1),
    slack: Fraction = Fraction(0),
) -> Iterator[tuple[ItemT, int]]:
    """Give the frames to keep at another frame rate, each with its number of copies, `limit` at most (0: no limit).

    Frame `k` of the wanted `f` frames a second is what is on screen at k/f seconds:

        on screen           |0   |1 |2      |3   |4   |
        wanted, f = 10      0         1         2             keeps 0, 2, 3, ...

    Args:
        items: frames in their order, each with the time at which the next one takes its place, in units.
        rate: frames a second; 0 keeps every frame once, and times are not looked at.
        limit: nothing is asked of `items` once it is reached.
        unit: of the times, seconds.
        slack: a frame counts as there this much before its time, seconds.
    """
    # Frames up to a time: ceil((time * unit - slack) * rate), in whole numbers.
    a_unit, before = unit * rate, slack * rate
    whole = lcm(a_unit.denominator, before.denominator)
    units, off = int(a_unit * whole), int(before * whole)
    kept = 0
    for item, until in items:
        copies = max(0, -((off - until * units) // whole) - kept) if rate else 1
        if limit:
            copies = min(copies, limit - kept)
        if copies:
            yield item, copies
            kept += copies
        if limit and kept == limit:
            return


def settled_rate(times: Sequence[float], announced: float) -> tuple[float, bool]:
    """Return the frames a second of frames at these times, and whether they follow each other evenly.

    Stamps may be rounded: times within 2 ms of a constant rate are even. What the file announces is taken where it is
    what its frames do, and where there are too few to tell.
    """
    if len(times) < 3 or times[-1] == times[0]:
        return announced, True
    seen = np.asarray(times, np.float64) - times[0]
    interval = float(seen[-1]) / (len(seen) - 1)
    even = bool(np.abs(seen - np.arange(len(seen)) * interval).max() <= _EVEN_S)
    rate = announced if abs(announced * interval - 1) <= _SAME_RATE else round(1 / interval, 3)
    return rate, even


def even_times(frames: int, rate: float) -> npt.NDArray[np.float64]:
    """Return the times of frames at a constant rate, seconds, float64 [frames]; NaN where the rate is unknown (0)."""
    return np.arange(frames) / rate if rate else np.full(frames, np.nan)


def uneven_times(times: npt.NDArray[np.float64], rate: float) -> npt.NDArray[np.float64] | None:
    """Return the times of frames where they do not follow from a constant rate, else None."""
    return None if np.array_equal(times, even_times(len(times), rate), equal_nan=True) else times
