"""What to do with a sample: which frames to read, how to augment them, which pretext task to ask.

A recipe turns (epoch, sample ids) into a `ClipPlan`: plain arrays, decided before a byte is read. Plans are pure
functions, so two processes, or one process twice, plan the same thing; a sample's plan does not depend on its batch.
"""

from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from pclkd.pipeline.clips import augment, sampling
from pclkd.pipeline.clips.augment import AugmentSettings, ClipAugment
from pclkd.pipeline.clips.sampling import TupleSettings, ViewSettings
from pclkd.pipeline.pretext.base import Facts, Pretext, PretextDraw, middle
from pclkd.pipeline.pretext.vcp import Vcp
from pclkd.pipeline.randomness import Purpose, uniform
from pclkd.sharding.common.errors import InputError

__all__ = ["ClipPlan", "Recipe", "TupleRecipe", "ViewsRecipe"]

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


class _RandomClips:
    """What recipes of random clips have in common: augmentation and a pretext task."""

    seed: int
    augment: AugmentSettings | None
    pretext: Pretext | None

    @property
    def views(self) -> int:
        """Clips a sample (V)."""
        raise NotImplementedError

    @property
    def colours(self) -> bool:
        """Training clips are jittered and blurred, validation clips are not."""
        return self.augment is not None and self.augment.changes_colours

    @property
    def pretext_classes(self) -> tuple[str, ...]:
        """Names of the pretext classes; none without a task."""
        return () if self.pretext is None else self.pretext.classes

    @property
    def contrast_views(self) -> tuple[int, ...]:
        """The clips that contrast may compare; see `Pretext.contrast_views`."""
        return tuple(range(self.views)) if self.pretext is None else self.pretext.contrast_views(self.views)

    def _augment(self, epoch: int, sample_ids: Ints, sizes: Ints, crop: int) -> ClipAugment:
        if self.augment is None:
            return augment.centre_crop(sizes, self.views, crop)
        return augment.draw(self.seed, epoch, sample_ids, self.views, sizes, crop, self.augment)


@dataclass(frozen=True)
class TupleRecipe(_RandomClips):
    """PCL tuples: three consecutive clips, with any pretext task.

    Attributes:
        seed: the run's seed.
        tuples: how the clips lie in the video.
        augment: random augmentation, or None for the centre crop (validation).
        pretext: what is asked about the clips; None leaves them plain.

    Raises:
        InputError: the pretext task cannot take such clips apart.
    """

    seed: int
    tuples: TupleSettings = field(default_factory=TupleSettings)
    augment: AugmentSettings | None = field(default_factory=AugmentSettings)
    pretext: Pretext | None = field(default_factory=Vcp)

    def __post_init__(self) -> None:
        if self.pretext is not None:
            self.pretext.check(self.views, self.clip_frames)

    @property
    def views(self) -> int:
        """Three."""
        return len(self.tuples.offsets)

    @property
    def clip_frames(self) -> int:
        """Frames a clip."""
        return self.tuples.clip_frames

    def plan(self, epoch: int, sample_ids: Ints, frames: Ints, sizes: Ints, crop: int) -> ClipPlan:
        """Place the tuples, draw pretext and augmentation; a remote clip takes the middle one's place."""
        tuples, strides = self.tuples, np.array(self.tuples.frame_stride)
        draws = uniform(self.seed, epoch, sample_ids, Purpose.CLIP_START, 2)
        places = sampling.sample_tuples(frames, draws, tuples)
        asked = None
        if self.pretext is not None:
            facts = Facts(places.has_remote, sampling.longest_strides(frames, tuples.offsets, tuples))
            asked = self.pretext.draw(self.seed, epoch, sample_ids, facts)
            if asked.stride is not None:
                strides = tuples.frame_stride * asked.stride
                places = sampling.sample_tuples(frames, draws, tuples, strides)
        starts = places.start[:, None] + tuples.offsets
        if asked is not None and asked.remote is not None:
            view = middle(self.views)
            starts[:, view] = np.where(asked.remote, places.remote, starts[:, view])
        return ClipPlan(
            frames=sampling.clip_frames(starts, tuples.clip_frames, frames, strides, tuples.short),
            augment=self._augment(epoch, sample_ids, sizes, crop),
            pretext=asked,
        )


@dataclass(frozen=True)
class ViewsRecipe(_RandomClips):
    """Independent random views of a video, from one on, with a pretext task that needs no order of clips.

    Attributes:
        seed: the run's seed.
        clips: how many views, and how they lie in the video.
        augment: random augmentation, or None for the centre crop (validation).
        pretext: rotation or speed; None leaves the clips plain.

    Raises:
        InputError: the pretext task asks about clips in temporal order.
    """

    seed: int
    clips: ViewSettings = field(default_factory=ViewSettings)
    augment: AugmentSettings | None = field(default_factory=AugmentSettings)
    pretext: Pretext | None = None

    def __post_init__(self) -> None:
        if self.pretext is None:
            return
        if self.pretext.needs_order:
            raise InputError(
                f"pretext.task {self.pretext.name} asks about clips in temporal order, independent views have none",
                remedy="use a TupleRecipe, or pretext.task rotation or speed",
            )
        self.pretext.check(self.views, self.clip_frames)

    @property
    def views(self) -> int:
        """Clips a sample."""
        return self.clips.views

    @property
    def clip_frames(self) -> int:
        """Frames a clip."""
        return self.clips.clip_frames

    def plan(self, epoch: int, sample_ids: Ints, frames: Ints, sizes: Ints, crop: int) -> ClipPlan:
        """Draw the speed of the views, then their places, and the augmentation."""
        clips, strides, asked = self.clips, np.array(self.clips.frame_stride), None
        if self.pretext is not None:
            nowhere = np.zeros(len(frames), np.bool_)
            facts = Facts(nowhere, sampling.longest_strides(frames, np.zeros(self.views, np.int64), clips))
            asked = self.pretext.draw(self.seed, epoch, sample_ids, facts)
            if asked.stride is not None:
                strides = clips.frame_stride * asked.stride
        draws = uniform(self.seed, epoch, sample_ids, Purpose.CLIP_START, self.views)
        starts = sampling.sample_views(frames, draws, clips, strides if strides.ndim else None)
        return ClipPlan(
            frames=sampling.clip_frames(starts, clips.clip_frames, frames, strides, clips.short),
            augment=self._augment(epoch, sample_ids, sizes, crop),
            pretext=asked,
        )
