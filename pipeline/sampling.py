"""Which frames: clip positions as pure index arithmetic.

A PCL tuple is three consecutive clips of T frames, `stride` apart, and possibly a remote clip on one side:

    frame     0        start                                           n
              |  remote?  |----T----|  gap  |----T----|  gap  |----T----|   distance   |--remote?--|
                          '-stride----------'

Source: Pretext-Contrastive Learning, arXiv 2010.15464 (T 16, gap 8, remote at least 16 frames away).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from pclkd.pipeline.settings import Settings

__all__ = ["TuplePositions", "TupleSettings", "clip_frames", "sample_tuples", "uniform_starts"]

Ints = NDArray[np.int64]


class TupleSettings(Settings):
    """How the clips of a PCL tuple lie in a video."""

    clip_frames: int = Field(default=16, ge=4, multiple_of=4)
    """Frames in a clip (T); a multiple of 4, because the pretext task shuffles quarters of a clip."""
    clip_stride: int = Field(default=24, ge=1)
    """Frames from the start of a clip to the start of the next: T + gap. The published code has 11, its text 24."""
    remote_distance: int = Field(default=16, ge=0)
    """Frames at least between the tuple and the remote clip."""

    @property
    def span(self) -> int:
        """Frames from the first frame of the first clip to the last of the third."""
        return 2 * self.clip_stride + self.clip_frames


@dataclass(frozen=True)
class TuplePositions:
    """Where the clips of B samples start.

    Attributes:
        start: [B] first frame of the first clip.
        remote: [B] first frame of the remote clip; 0 where there is no room.
        has_remote: [B] bool, whether the video has room for a remote clip on at least one side.
    """

    start: Ints
    remote: Ints
    has_remote: NDArray[np.bool_]


def sample_tuples(frames: Ints, draws: NDArray[np.float64], settings: TupleSettings) -> TuplePositions:
    """Place a tuple in each video, uniformly over all places, and a remote clip uniformly over the room left.

    A video shorter than the tuple starts at frame 0 and loops (see `clip_frames`).

    Args:
        frames: [B] frame counts of the videos, each >= 1.
        draws: [B, 2] uniform numbers in [0, 1).
        settings: the tuple's shape.
    """
    places = np.maximum(frames - settings.span, 0) + 1
    start = (draws[:, 0] * places).astype(np.int64)
    away = settings.clip_frames + settings.remote_distance
    before = np.maximum(start - away + 1, 0)  # places for a remote clip that ends `distance` before the tuple
    first_after = start + settings.span + settings.remote_distance
    after = np.maximum(frames - settings.clip_frames - first_after + 1, 0)
    choice = (draws[:, 1] * (before + after)).astype(np.int64)
    has_remote = before + after > 0
    remote = np.where(choice < before, choice, first_after + choice - before)
    return TuplePositions(start=start, remote=np.where(has_remote, remote, 0), has_remote=has_remote)


def uniform_starts(frames: Ints, clips: int, clip_frames: int) -> Ints:
    """[B, clips] starts of uniformly spaced test clips, the first at frame 0, the last at the end (one: the middle).

    Args:
        frames: [B] frame counts.
        clips: clips a video (the published test protocol takes 10).
        clip_frames: frames in a clip.
    """
    room = np.maximum(frames - clip_frames, 0)[:, None]
    if clips == 1:
        return room // 2
    return (room * np.arange(clips)[None, :]) // (clips - 1)


def clip_frames(starts: Ints, length: int, frames: Ints) -> Ints:
    """Frame numbers of clips: [B, V] starts -> [B, V, length]; past the end of a video they loop to its beginning."""
    return (starts[..., None] + np.arange(length)) % frames[:, None, None]
