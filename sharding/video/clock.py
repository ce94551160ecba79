"""When each frame of a video is on screen, and which frames another rate takes.

Seconds are counted from the first frame. Time stamps tell them, as exact fractions; containers without usable ones
(AVI above all: MEncoder wrote them out of order) are counted at the rate in their header.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from fractions import Fraction
from typing import TypeVar

import av
import numpy as np
import numpy.typing as npt

__all__ = ["Clock", "TimedFrame", "even_times", "keep", "settled_rate"]

ItemT = TypeVar("ItemT")

TimedFrame = tuple[av.VideoFrame, Fraction]
"""A frame and when it comes on screen."""

# A stamp that goes back by less is out of order; by more, and another recording begins in the same file.
_NEW_RECORDING = 1
# Stamps are rounded to the container's ticks: milliseconds in Matroska and FLV, 1/600 s in old QuickTime files.
_MOST_ROUNDING = Fraction(1, 1000)
_EVEN = 0.002
_SAME_RATE = 0.005


class Clock:
    """Times of the frames of one video, in the order in which the decoder gives them.

    Args:
        rate: frames a second that the header announces; None if it does not.
        tick: unit of the time stamps, seconds.
        counted: whether frames are counted, because time stamps are of no use.

    Attributes:
        slack: by how much a stamp can lie beside the time that it stands for, seconds.
    """

    def __init__(self, rate: Fraction | None, tick: Fraction, *, counted: bool) -> None:
        self._interval = 1 / rate if rate else tick
        self._tick = tick
        self._counted = counted
        exact = counted or (self._interval / tick).denominator == 1
        self.slack = Fraction(0) if exact else min(tick / 2, _MOST_ROUNDING)
        self._origin: Fraction | None = None
        self._time = Fraction(0)
        self._frames = 0
        self._lasts = Fraction(0)

    def time_of(self, frame: av.VideoFrame, place: int) -> Fraction:
        """Return when the next frame comes on screen; `place` is its number, with repeats that are not stored."""
        if self._counted:
            self._time = place * self._interval
        else:
            self._time = self._by_stamp(frame)
            self._lasts = (frame.duration or 0) * self._tick
        self._frames += 1
        return self._time

    def _by_stamp(self, frame: av.VideoFrame) -> Fraction:
        ticks = frame.pts if frame.pts is not None else frame.dts
        following = self._time + self._interval if self._frames else self._time
        if ticks is None:
            return following
        stamp = ticks * self._tick
        if self._origin is None:
            self._origin = stamp - self._time
        if self._time - (stamp - self._origin) >= _NEW_RECORDING:
            self._origin = stamp - following
        return max(self._time, stamp - self._origin)

    @property
    def end(self) -> Fraction:
        """When the frame that was told last goes from the screen.

        A length of a single tick is what FFmpeg makes up where the file tells neither length nor rate; then it is on
        screen as long as the others are on average.
        """
        if self._counted:
            return self._time + self._interval
        if self._lasts > self._tick or self._frames < 2 or not self._time:
            return self._time + max(self._lasts, self._tick)
        return self._time + self._time / (self._frames - 1)


def keep(
    items: Iterable[tuple[ItemT, Fraction]], rate: Fraction, limit: int, slack: Fraction = Fraction(0)
) -> Iterator[tuple[ItemT, int]]:
    """Give the frames to keep at another frame rate, each with its number of copies, `limit` at most (0: no limit).

    Frame `k` of the wanted `f` frames a second is what is on screen at k/f seconds:

        on screen           |0   |1 |2      |3   |4   |
        wanted, f = 10      0         1         2             keeps 0, 2, 3, ...

    Args:
        items: frames in their order, each with the time at which the next one takes its place, seconds.
        rate: frames a second; 0 keeps every frame once, and times are not looked at.
        limit: nothing is asked of `items` once it is reached.
        slack: a frame counts as there this much before its time.
    """
    kept = 0
    for item, until in items:
        copies = max(0, math.ceil((until - slack) * rate) - kept) if rate else 1
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
    even = bool(np.abs(seen - np.arange(len(seen)) * interval).max() <= _EVEN)
    rate = announced if abs(announced * interval - 1) <= _SAME_RATE else round(1 / interval, 3)
    return rate, even


def even_times(frames: int, rate: float) -> npt.NDArray[np.float64]:
    """Return the times of frames at a constant rate, seconds, float64 [frames]; NaN where the rate is unknown (0)."""
    return np.arange(frames) / rate if rate else np.full(frames, np.nan)
