"""The pretext task VCP ("video cloze procedure", 5 classes): what was done to the middle clip?

    class 1, rotated      class 2, quadrants      class 3, one pair of chunks swapped (here the 2nd and the 4th)

      A B      B D          A B      D C           time   0-3   4-7   8-11  12-15
      C D  ->  A C          C D  ->  B A           ->     0-3  12-15  8-11   4-7

Class 0 is the clip as it is. Class 4 is a clip from elsewhere in the video: the loader decodes that one in the middle
clip's place, and nothing is left to do afterwards.

Source: Luo et al., "Video Cloze Procedure for Self-Supervised Spatio-Temporal Learning", arXiv 2001.00294, as used by
PCL, arXiv 2010.15464.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from pclkd.pipeline.pretext.base import TUPLE_VIEWS, Facts, Pretext, PretextDraw, middle, need_views
from pclkd.pipeline.pretext.rows import array_module, change_rows, frames_of, quarter_turned
from pclkd.pipeline.randomness import Purpose, words
from pclkd.sharding.common.errors import InputError

if TYPE_CHECKING:
    import torch

__all__ = ["CHUNK_PAIRS", "Vcp", "VcpDraw"]

_CLASSES = ("original", "rotated", "quadrants", "chunks", "remote")
_ROTATED, _QUADRANTS, _CHUNKS, _REMOTE = 1, 2, 3, 4
_CHUNK_COUNT = 4

CHUNK_PAIRS = tuple(combinations(range(_CHUNK_COUNT), 2))
"""The pair of chunks that each variant of class 3 swaps."""

_VARIANTS = np.array([1, 3, 1, len(CHUNK_PAIRS), 1])

Ints = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class VcpDraw(PretextDraw):
    """What is done to the middle clips of B samples.

    Attributes:
        variant: [B] int64; class 1: 0-2 for 90, 180, 270 degrees counter-clockwise; class 3: which of CHUNK_PAIRS;
            else 0.
    """

    variant: Ints

    @property
    def remote(self) -> NDArray[np.bool_]:
        """[B] bool, class 4."""
        return np.equal(self.label, _REMOTE)

    @property
    def keeps_time(self) -> NDArray[np.bool_]:
        """[B] bool, all but class 3."""
        return np.not_equal(self.label, _CHUNKS)

    def apply(self, clips: torch.Tensor) -> torch.Tensor:
        """Rotate, shuffle or swap within the middle clips, in place; see `PretextDraw`."""
        return self._change(clips, self.variant)

    def invert(self, clips: torch.Tensor) -> torch.Tensor:
        """Undo `apply`, in place. A remote clip stays: the one whose place it took was never decoded."""
        # Quadrants and chunks are their own inverses; quarter turns go on to the full turn.
        return self._change(clips, np.where(self.label == _ROTATED, 2 - self.variant, self.variant))

    def describe(self, b: int) -> str:
        """Class and variant of sample b, in words."""
        variant = int(self.variant[b])
        first, second = CHUNK_PAIRS[variant]
        return (
            "original",
            f"rotated by {90 * (variant + 1)} degrees",
            "quadrants in the order D C B A",
            f"chunks {first + 1} and {second + 1} swapped",
            "remote clip",
        )[int(self.label[b])]

    def _change(self, clips: torch.Tensor, variant: Ints) -> torch.Tensor:
        self._check_batch(clips)
        frames, height, width = clips.shape[3:]
        if frames % _CHUNK_COUNT:
            raise ValueError(f"a clip of {frames} frames does not divide into {_CHUNK_COUNT} chunks")
        if height != width or height % 2:
            raise ValueError(f"frames of {height} x {width} pixels are not square with an even side")
        kind = np.where(
            np.isin(self.label, (_ROTATED, _QUADRANTS, _CHUNKS)), self.label * len(CHUNK_PAIRS) + variant, -1
        )

        def change(rows: Any, number: int) -> Any:
            return _transform(rows, *divmod(number, len(CHUNK_PAIRS)))

        change_rows(clips[:, middle(clips.shape[1])], kind, change)
        return clips


@dataclass(frozen=True)
class Vcp(Pretext):
    """Classify what was done to the middle of three consecutive clips."""

    name: ClassVar[str] = "vcp"
    needs_order: ClassVar[bool] = True

    @property
    def classes(self) -> tuple[str, ...]:
        """original, rotated, quadrants, chunks, remote."""
        return _CLASSES

    def contrast_views(self, views: int) -> tuple[int, ...]:
        """All but the middle one: PCL's first and third."""
        return tuple(view for view in range(views) if view != middle(views))

    def check(self, views: int, clip_frames: int) -> None:
        """Three clips, whose frames divide into four chunks.

        Raises:
            InputError: they are not.
        """
        need_views(self.name, views, TUPLE_VIEWS)
        if clip_frames % _CHUNK_COUNT:
            raise InputError(
                f"tuples.clip_frames {clip_frames}: pretext.task vcp swaps quarters of a clip",
                remedy=f"set a multiple of {_CHUNK_COUNT}, or another pretext.task",
            )

    def draw(self, seed: int, epoch: int, sample_ids: Ints, facts: Facts) -> VcpDraw:
        """Classes uniform over 0-4, or over 0-3 where the video has no room for a remote clip; variants uniform."""
        chance = words(seed, epoch, sample_ids, Purpose.PRETEXT, 2)
        label = (chance[:, 0] * np.where(facts.has_remote, len(_CLASSES), _REMOTE)) >> 32
        variant = (chance[:, 1] * _VARIANTS[label]) >> 32
        return VcpDraw(_CLASSES, label, variant)


def _transform(rows: Any, label: int, variant: int) -> Any:
    """One transform for clips [N, C, T, H, W]."""
    arrays = array_module(rows)
    if label == _ROTATED:
        return quarter_turned(rows, variant + 1)
    if label == _QUADRANTS:
        # D C / B A for A B / C D: every quadrant moves by half a side down and right, around the edges.
        half = rows.shape[-1] // 2
        if (frames := frames_of(rows)) is None:
            return arrays.roll(rows, (half, half), (-2, -1))
        for frame in frames:
            frame[:] = np.roll(frame, (half, half), (0, 1))
        return rows
    length = rows.shape[-3] // _CHUNK_COUNT
    order = list(range(_CHUNK_COUNT))
    i, j = CHUNK_PAIRS[variant]
    order[i], order[j] = j, i
    return arrays.concatenate([rows[..., chunk * length : (chunk + 1) * length, :, :] for chunk in order], -3)
