"""Clips that cover a video: uniformly spaced ones, and every window of a dense walk.

Pure index arithmetic for B videos at once, as in `sampling`. The published test protocol takes 10 uniform clips.
"""

import numpy as np
from numpy.typing import NDArray

from pclkd.pipeline.clips.sampling import pick

__all__ = ["dense_counts", "dense_starts", "uniform_starts"]

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


def uniform_starts(frames: Ints, clips: int, reach: int, jitter: int = 0, draws: Floats | None = None) -> Ints:
    """[B, clips] starts of uniformly spaced test clips, the first at frame 0, the last at the end (one: the middle).

        frame 0                                            n
              |--clip 0--|                                  |
              |           |--clip 1--|                      |
              |                       |--clip 2--|          |
              |                                  |--clip 3--|
                          '<->' jitter, each start for itself, within the video

    Args:
        frames: [B] frame counts.
        clips: clips a video (the published test protocol takes 10).
        reach: frames of the video that a clip reaches over.
        jitter: frames at most that a start is moved to either side, uniformly over the places within the video.
        draws: [B, clips] uniform numbers in [0, 1) for the jitter.

    Raises:
        ValueError: jitter without draws.
    """
    room = np.maximum(frames - reach, 0)[:, None]
    starts = room // 2 if clips == 1 else (room * np.arange(clips)[None, :]) // (clips - 1)
    if not jitter:
        return starts
    if draws is None:
        raise ValueError(f"a jitter of {jitter} frames needs draws")
    low, high = np.maximum(starts - jitter, 0), np.minimum(starts + jitter, room)
    return low + pick(draws, high - low + 1)


def dense_counts(frames: Ints, every: int, reach: int) -> Ints:
    """[B] windows of a dense walk: one at every `every`-th frame where a whole clip fits, and at least one."""
    return np.maximum(frames - reach, 0) // every + 1


def dense_starts(frames: Ints, every: int, reach: int, first: int, clips: int) -> Ints:
    """[B, clips] starts of the windows `first`, `first` + 1, ... of a dense walk over each video.

        frame 0  every                                      n
              |----0----|                                    |
              |   |----1----|                                |
              |       |----2----|                            |
              |                    ...  |--last--|           |     past the last window it is repeated
                                                  '< every --'

    Args:
        frames: [B] frame counts.
        every: frames from a window to the next.
        reach: frames of the video that a clip reaches over.
        first: number of the first window.
        clips: how many.
    """
    last = dense_counts(frames, every, reach)[:, None] - 1
    return np.minimum(first + np.arange(clips), last) * every
