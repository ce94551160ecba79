"""The pretext task of rotation: by how much are all frames of the clip turned?

    class 0      class 1      class 2      class 3

      A B          B D          D C          C A
      C D          A C          B A          D B
               90 degrees   180 degrees  270 degrees, counter-clockwise

Source: Jing et al., "Self-Supervised Spatiotemporal Feature Learning via Video Rotation Prediction", arXiv 1811.11387
(3DRotNet): one clip, all of its frames turned alike.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from pclkd.pipeline.pretext.base import Changed, Facts, Pretext, PretextDraw, middle
from pclkd.pipeline.pretext.rows import change_rows, quarter_turned
from pclkd.pipeline.randomness import Purpose, integers

if TYPE_CHECKING:
    import torch

__all__ = ["Rotation", "RotationDraw"]

Ints = NDArray[np.int64]

_CLASSES = ("upright", "90 degrees", "180 degrees", "270 degrees")


@dataclass(frozen=True, eq=False)
class RotationDraw(PretextDraw):
    """By how many quarter turns the clips of B samples are turned: their labels.

    Attributes:
        changed: which clips are turned.
    """

    changed: Changed

    @property
    def keeps_time(self) -> NDArray[np.bool_]:
        """[B] bool, all of them."""
        return np.ones(len(self.label), np.bool_)

    def apply(self, clips: torch.Tensor) -> torch.Tensor:
        """Turn the frames counter-clockwise, in place; see `PretextDraw`."""
        return self._turn(clips, self.label)

    def invert(self, clips: torch.Tensor) -> torch.Tensor:
        """Turn the frames back, in place."""
        return self._turn(clips, -self.label % len(_CLASSES))

    def describe(self, b: int) -> str:
        """The turn of sample b, in words."""
        turns = int(self.label[b])
        return f"rotated by {90 * turns} degrees" if turns else "upright"

    def _turn(self, clips: torch.Tensor, turns: Ints) -> torch.Tensor:
        self._check_batch(clips)
        height, width = clips.shape[4:]
        if height != width:
            raise ValueError(f"frames of {height} x {width} pixels are not square")
        rows = clips if self.changed == "all" else clips[:, middle(clips.shape[1])]

        def turn(some: Any, by: int) -> Any:
            return quarter_turned(some, by)

        change_rows(rows, np.where(turns > 0, turns, -1), turn)
        return clips


@dataclass(frozen=True)
class Rotation(Pretext):
    """Classify the rotation of one clip of a sample, or of all of them alike.

    Attributes:
        changed: "middle" leaves the others upright, for contrast; "all" is the published task where clips have no
            upright neighbour to be compared with.
    """

    changed: Changed = "middle"

    name: ClassVar[str] = "rotation"

    @property
    def classes(self) -> tuple[str, ...]:
        """upright, 90, 180 and 270 degrees counter-clockwise."""
        return _CLASSES

    def contrast_views(self, views: int) -> tuple[int, ...]:
        """The upright ones. Clips turned alike would be told from other videos by their turn."""
        return () if self.changed == "all" else tuple(view for view in range(views) if view != middle(views))

    def draw(self, seed: int, epoch: int, sample_ids: Ints, facts: Facts) -> RotationDraw:  # noqa: ARG002
        """Quarter turns uniform over 0-3."""
        turns = integers(seed, epoch, sample_ids, Purpose.PRETEXT, 1, len(_CLASSES))[:, 0]
        return RotationDraw(_CLASSES, turns, self.changed)
