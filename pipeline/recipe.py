"""What to do with a sample: which frames to read, how to augment them, which pretext transform to apply.

A recipe turns (epoch, sample ids) into a `ClipPlan`: plain arrays, decided before a byte is read. Plans are pure
functions, so two processes, or one process twice, plan the same thing.
"""

from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from pclkd.pipeline import augment, sampling
from pclkd.pipeline.augment import AugmentSettings, ClipAugment
from pclkd.pipeline.pretext import Facts, PretextDraw
from pclkd.pipeline.randomness import Purpose, uniform
from pclkd.pipeline.sampling import TupleSettings
from pclkd.pipeline.vcp import Vcp

__all__ = ["ClipPlan", "Recipe", "TupleRecipe", "UniformRecipe"]

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class ClipPlan:
    """All decisions about B samples.

    Attributes:
        frames: [B, V, T] frame numbers within each video.
        augment: the clips' augmentation, arrays [B, V].
        pretext: what the pretext task does to the clips; None leaves them alone.
    """

    frames: Ints
    augment: ClipAugment
    pretext: PretextDraw | None


class Recipe(Protocol):
    """Anything that plans samples."""

    @property
    def views(self) -> int:
        """Clips a sample (V)."""

    @property
    def clip_frames(self) -> int:
        """Frames a clip (T)."""

    @property
    def colours(self) -> bool:
        """Whether plans may change colours or blur; the decoder leaves those operators out otherwise."""

    def plan(self, epoch: int, sample_ids: Ints, frames: Ints, sizes: Ints, crop: int) -> ClipPlan:
        """Decide everything about the samples.

        Args:
            epoch: the epoch.
            sample_ids: [B] sample ids.
            frames: [B] frame counts of those videos.
            sizes: [B, 2] stored (height, width) of those videos, in pixels.
            crop: height and width of a clip, in pixels.
        """


@dataclass(frozen=True)
class TupleRecipe:
    """PCL tuples: three consecutive clips, with the VCP pretext task.

    Attributes:
        seed: the run's seed.
        tuples: how the clips lie in the video.
        augment: random augmentation, or None for the centre crop (validation).
        transform: whether the middle clip is transformed; False leaves three plain clips.
    """

    seed: int
    tuples: TupleSettings = field(default_factory=TupleSettings)
    augment: AugmentSettings | None = field(default_factory=AugmentSettings)
    transform: bool = True
    views: int = 3

    @property
    def clip_frames(self) -> int:
        """Frames a clip."""
        return self.tuples.clip_frames

    @property
    def colours(self) -> bool:
        """Training clips are jittered and blurred, validation clips are not."""
        return self.augment is not None and self.augment.changes_colours

    def plan(self, epoch: int, sample_ids: Ints, frames: Ints, sizes: Ints, crop: int) -> ClipPlan:
        """Place the tuples, draw pretext and augmentation; class 4 takes the remote clip for the middle one."""
        draws = uniform(self.seed, epoch, sample_ids, Purpose.CLIP_START, 2)
        places = sampling.sample_tuples(frames, draws, self.tuples)
        starts = places.start[:, None] + self.tuples.clip_stride * np.arange(self.views)
        pretext = None
        if self.transform:
            facts = Facts(places.has_remote, np.ones((len(frames), self.views), np.int64))
            pretext = Vcp().draw(self.seed, epoch, sample_ids, facts)
            starts[:, 1] = np.where(pretext.remote, places.remote, starts[:, 1])
        if self.augment is None:
            parameters = augment.centre_crop(sizes, self.views, crop)
        else:
            parameters = augment.draw(self.seed, epoch, sample_ids, self.views, sizes, crop, self.augment)
        return ClipPlan(
            frames=sampling.clip_frames(starts, self.tuples.clip_frames, frames), augment=parameters, pretext=pretext
        )


@dataclass(frozen=True)
class UniformRecipe:
    """Uniformly spaced test clips, centre crop, nothing random.

    Attributes:
        views: clips a video; the published protocol takes 10.
        clip_frames: frames a clip.
    """

    views: int = 10
    clip_frames: int = 16
    colours: bool = False

    def plan(self, epoch: int, sample_ids: Ints, frames: Ints, sizes: Ints, crop: int) -> ClipPlan:  # noqa: ARG002
        """The same clips in every epoch."""
        starts = sampling.uniform_starts(frames, self.views, self.clip_frames)
        return ClipPlan(
            frames=sampling.clip_frames(starts, self.clip_frames, frames),
            augment=augment.centre_crop(sizes, self.views, crop),
            pretext=None,
        )
