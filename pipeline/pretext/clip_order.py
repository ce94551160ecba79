"""The pretext task of clip order: in which order do the clips of a tuple stand?

    class 0   1 2 3        class 2   2 1 3        class 4   3 1 2
    class 1   1 3 2        class 3   2 3 1        class 5   3 2 1

The clips themselves are not touched, but where they overlap (the published spacing of 11 frames for clips of 16) the
order shows in their common frames, and little needs to be learned.

Source: Xu et al., "Self-supervised Spatiotemporal Learning via Video Clip Order Prediction", CVPR 2019 (VCOP), with
3 clips of 16 frames, 8 frames between them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import permutations
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from pclkd.pipeline.pretext.base import TUPLE_VIEWS, Facts, Pretext, PretextDraw, need_views
from pclkd.pipeline.pretext.rows import array_module, change_rows
from pclkd.pipeline.randomness import Purpose, integers

if TYPE_CHECKING:
    import torch

__all__ = ["ORDERS", "ClipOrder", "ClipOrderDraw"]

Ints = NDArray[np.int64]

ORDERS = tuple(permutations(range(TUPLE_VIEWS)))
"""For each class, which clip stands at each of the three places."""

_CLASSES = tuple(" ".join(str(clip + 1) for clip in order) for order in ORDERS)


@dataclass(frozen=True, eq=False)
class ClipOrderDraw(PretextDraw):
    """In which order the clips of B samples stand."""

    @property
    def keeps_time(self) -> NDArray[np.bool_]:
        """[B] bool, all of them: clips move as a whole."""
        return np.ones(len(self.label), np.bool_)

    def apply(self, clips: torch.Tensor) -> torch.Tensor:
        """Reorder the clips, in place; see `PretextDraw`."""
        return self._reorder(clips, ORDERS)

    def invert(self, clips: torch.Tensor) -> torch.Tensor:
        """Put the clips back in temporal order, in place."""
        return self._reorder(clips, np.argsort(ORDERS, axis=1).tolist())

    def describe(self, b: int) -> str:
        """The order of sample b, in words."""
        return f"clips in the order {self.classes[int(self.label[b])]}"

    def _reorder(self, clips: torch.Tensor, orders: Sequence[Sequence[int]]) -> torch.Tensor:
        self._check_batch(clips)
        if clips.shape[1] != TUPLE_VIEWS:
            raise ValueError(f"{clips.shape[1]} clips a sample, not {TUPLE_VIEWS}")

        def reorder(rows: Any, label: int) -> Any:
            return array_module(rows).stack([rows[:, clip] for clip in orders[label]], 1)

        change_rows(clips, np.where(self.label > 0, self.label, -1), reorder)
        return clips


@dataclass(frozen=True)
class ClipOrder(Pretext):
    """Classify the order of three consecutive clips."""

    name: ClassVar[str] = "order"
    needs_order: ClassVar[bool] = True

    @property
    def classes(self) -> tuple[str, ...]:
        """The six orders."""
        return _CLASSES

    def contrast_views(self, views: int) -> tuple[int, ...]:
        """All: no clip is changed, and the order cannot be told from one clip alone."""
        return tuple(range(views))

    def check(self, views: int, clip_frames: int) -> None:  # noqa: ARG002 - any length will do
        """Three clips.

        Raises:
            InputError: they are not.
        """
        need_views(self.name, views, TUPLE_VIEWS)

    def draw(self, seed: int, epoch: int, sample_ids: Ints, facts: Facts) -> ClipOrderDraw:  # noqa: ARG002
        """Orders uniform over all six."""
        return ClipOrderDraw(_CLASSES, integers(seed, epoch, sample_ids, Purpose.PRETEXT, 1, len(ORDERS))[:, 0])
