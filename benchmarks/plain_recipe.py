"""The work that every loader is given when loaders are compared: PCL's clips, random crop and flip, nothing else."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from pclkd.pipeline import augment, sampling
from pclkd.pipeline.augment import AugmentSettings
from pclkd.pipeline.randomness import Purpose, uniform
from pclkd.pipeline.recipe import ClipPlan
from pclkd.pipeline.sampling import TupleSettings

__all__ = ["PlainRecipe"]

_NO_COLOURS = AugmentSettings(jitter_probability=0, grayscale_probability=0, blur_probability=0)


@dataclass(frozen=True)
class PlainRecipe:
    """Three consecutive clips a sample, cropped and flipped at random.

    No colour changes and no pretext task, so that a few lines around another library can do the very same work.

    Attributes:
        seed: keys all draws.
        tuples: how the clips lie in a video.
    """

    seed: int = 0
    tuples: TupleSettings = field(default_factory=TupleSettings)
    views: int = 3
    colours: bool = False

    @property
    def clip_frames(self) -> int:
        """Frames a clip."""
        return self.tuples.clip_frames

    def plan(
        self, epoch: int, sample_ids: NDArray[np.int64], frames: NDArray[np.int64], room: tuple[int, int]
    ) -> ClipPlan:
        """Place the tuples and draw crop and flip, a pure function of (seed, epoch, sample id)."""
        draws = uniform(self.seed, epoch, sample_ids, Purpose.CLIP_START, 2)
        places = sampling.sample_tuples(frames, draws, self.tuples)
        starts = places.start[:, None] + self.tuples.clip_stride * np.arange(self.views)
        return ClipPlan(
            frames=sampling.clip_frames(starts, self.tuples.clip_frames, frames),
            augment=augment.draw(self.seed, epoch, sample_ids, self.views, room, _NO_COLOURS),
            pretext=None,
        )
