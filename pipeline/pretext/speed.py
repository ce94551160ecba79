"""The pretext task of playback speed: every how many frames of the video does the clip show one?

    frame of the video   0  1  2  3  4  5  6  7  8  9 10 11 12
    class 0, stride 1    x  x  x  x
    class 1, stride 2    x     x     x     x
    class 2, stride 4    x           x           x           x

Decided before decoding, so that only frames that are shown are read; nothing is left to do afterwards. A video that is
too short for a stride is asked only about smaller ones: a clip that starts over would betray the fast classes.

Sources: Benaim et al., "SpeedNet: Learning the Speediness in Videos", CVPR 2020, arXiv 2004.06130 (two speeds); Yao et
al., "Video Playback Rate Perception for Self-supervised Spatio-Temporal Representation Learning", CVPR 2020,
arXiv 2006.11476 (PRP: dilated sampling at rates 1, 2, 4, 8).
"""

from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from pclkd.pipeline.pretext.base import FASTEST, Changed, Facts, Pretext, PretextDraw, middle
from pclkd.pipeline.randomness import Purpose, words
from pclkd.sharding.common.errors import InputError

__all__ = ["Speed", "SpeedDraw"]

Ints = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class SpeedDraw(PretextDraw):
    """How fast the clips of B samples play. `apply` and `invert` leave decoded clips alone.

    Attributes:
        strides: [B, V], see `stride`.
    """

    strides: Ints

    @property
    def stride(self) -> Ints:
        """[B, V] how many times as fast each clip plays."""
        return self.strides

    def describe(self, b: int) -> str:
        """The speed of sample b, in words."""
        return f"speed {self.classes[int(self.label[b])]}"


@dataclass(frozen=True)
class Speed(Pretext):
    """Classify the playback speed of one clip of a sample, or of all of them alike.

    Attributes:
        strides: the speeds of the classes, as multiples of the recipe's own, ascending, each 1-8.
        changed: "middle" plays the others at the recipe's own speed, for contrast; "all" plays all alike.

    Raises:
        InputError: fewer than two strides, or others than those.
    """

    strides: tuple[int, ...] = (1, 2, 4, 8)
    changed: Changed = "middle"

    name: ClassVar[str] = "speed"

    def __post_init__(self) -> None:
        ascending = all(a < b for a, b in pairwise(self.strides))
        if len(self.strides) < 2 or not ascending or self.strides[0] < 1 or self.strides[-1] > FASTEST:
            raise InputError(
                f"pretext.strides {list(self.strides)}: not two or more different speeds in ascending order",
                remedy=f"set whole numbers from 1 to {FASTEST}, for example [1, 2, 4, 8]",
            )

    @property
    def classes(self) -> tuple[str, ...]:
        """The speeds: 1x, 2x, 4x, 8x."""
        return tuple(f"{stride}x" for stride in self.strides)

    def contrast_views(self, views: int) -> tuple[int, ...]:
        """The ones at the recipe's own speed. Clips sped up alike would be told from other videos by their speed."""
        return () if self.changed == "all" else tuple(view for view in range(views) if view != middle(views))

    def check(self, views: int, clip_frames: int) -> None:  # noqa: ARG002 - any number of clips will do
        """A single frame has no speed.

        Raises:
            InputError: the clips are single frames.
        """
        if clip_frames < 2:
            raise InputError(
                f"clip_frames {clip_frames}: pretext.task speed asks how fast a clip plays", remedy="set 2 or more"
            )

    def draw(self, seed: int, epoch: int, sample_ids: Ints, facts: Facts) -> SpeedDraw:
        """Classes uniform over the strides that fit into the video; the smallest stride where none does."""
        view = middle(facts.longest_stride.shape[1])
        longest = facts.longest_stride.min(1) if self.changed == "all" else facts.longest_stride[:, view]
        strides = np.array(self.strides)
        fitting = np.maximum((strides <= longest[:, None]).sum(1), 1)
        label = (words(seed, epoch, sample_ids, Purpose.PRETEXT, 1)[:, 0] * fitting) >> 32
        played = np.ones_like(facts.longest_stride)
        played[:, slice(None) if self.changed == "all" else slice(view, view + 1)] = strides[label][:, None]
        return SpeedDraw(self.classes, label, played)
