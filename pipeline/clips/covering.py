"""Recipes that cover whole videos, for evaluation: uniformly spaced clips, or every window."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pclkd.pipeline.clips import augment, sampling
from pclkd.pipeline.clips.recipe import ClipPlan
from pclkd.pipeline.clips.sampling import ShortVideos, pick
from pclkd.pipeline.randomness import Purpose, uniform
from pclkd.sharding.common.errors import InputError

__all__ = ["DenseRecipe", "UniformRecipe", "dense_counts", "dense_starts", "uniform_starts"]


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


@dataclass(frozen=True)
class UniformRecipe:
    """Uniformly spaced test clips, centre crop; nothing random but the jitter, if any.

    Attributes:
        views: clips a video; the published protocol takes 10.
        clip_frames: frames a clip.
        frame_stride: frames of the video from one frame of a clip to the next.
        short: what a clip shows past the end of a short video.
        jitter: frames at most that a start is moved to either side, other ones in each epoch.
        seed: keys the jitter.

    Raises:
        InputError: a number that means nothing.
    """

    views: int = 10
    clip_frames: int = 16
    frame_stride: int = 1
    short: ShortVideos = "loop"
    jitter: int = 0
    seed: int = 0
    colours: bool = False

    def __post_init__(self) -> None:
        _from(1, views=self.views, clip_frames=self.clip_frames, frame_stride=self.frame_stride)
        _from(0, jitter=self.jitter)

    def plan(self, epoch: int, sample_ids: Ints, frames: Ints, sizes: Ints, crop: int) -> ClipPlan:
        """The same clips in every epoch, but for the jitter."""
        draws = uniform(self.seed, epoch, sample_ids, Purpose.CLIP_START, self.views) if self.jitter else None
        reach = sampling.reach(self.clip_frames, self.frame_stride)
        starts = uniform_starts(frames, self.views, reach, self.jitter, draws)
        return _plain_plan(self, starts, frames, sizes, crop)


@dataclass(frozen=True)
class DenseRecipe:
    """Every window of a video, `every` frames from one to the next, centre crop, nothing random.

    Videos differ in their number of windows, batches do not: epoch e delivers the windows e * V to (e + 1) * V - 1 of
    each video, and past its last window repeats that one. So a whole walk is

        for part in range(recipe.passes(counts)):                  # counts: frames of the videos
            for batch in loader.epoch(part): ...                   # recipe.fresh(part, ...) tells repeats

    Attributes:
        every: frames from a window to the next.
        views: windows a sample and pass.
        clip_frames: frames a clip.
        frame_stride: frames of the video from one frame of a clip to the next.
        short: what a clip shows past the end of a short video.

    Raises:
        InputError: a number that means nothing.
    """

    every: int = 8
    views: int = 10
    clip_frames: int = 16
    frame_stride: int = 1
    short: ShortVideos = "loop"
    colours: bool = False

    def __post_init__(self) -> None:
        _from(1, every=self.every, views=self.views, clip_frames=self.clip_frames, frame_stride=self.frame_stride)

    def windows(self, frames: Ints) -> Ints:
        """[B] windows of videos with [B] frames."""
        return dense_counts(frames, self.every, sampling.reach(self.clip_frames, self.frame_stride))

    def passes(self, frames: Ints) -> int:
        """Passes, as epochs, until the video with the most windows has shown them all."""
        return int(-(-self.windows(frames).max() // self.views))

    def fresh(self, epoch: int, frames: Ints) -> NDArray[np.bool_]:
        """[B, V] bool, which clips of a pass are windows, not repeats."""
        return epoch * self.views + np.arange(self.views) < self.windows(frames)[:, None]

    def plan(self, epoch: int, sample_ids: Ints, frames: Ints, sizes: Ints, crop: int) -> ClipPlan:  # noqa: ARG002
        """The windows of one pass."""
        reach = sampling.reach(self.clip_frames, self.frame_stride)
        starts = dense_starts(frames, self.every, reach, epoch * self.views, self.views)
        return _plain_plan(self, starts, frames, sizes, crop)


def _plain_plan(recipe: UniformRecipe | DenseRecipe, starts: Ints, frames: Ints, sizes: Ints, crop: int) -> ClipPlan:
    return ClipPlan(
        frames=sampling.clip_frames(starts, recipe.clip_frames, frames, recipe.frame_stride, recipe.short),
        augment=augment.centre_crop(sizes, recipe.views, crop),
        pretext=None,
    )


def _from(least: int, **numbers: int) -> None:
    for name, number in numbers.items():
        if number < least:
            raise InputError(f"{name} {number} of a recipe is too small", remedy=f"give a whole number from {least} on")
