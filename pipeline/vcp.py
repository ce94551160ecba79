"""The pretext task: what was done to the middle clip? (VCP: "video cloze procedure", 5 classes).

    class 1, rotated      class 2, quadrants      class 3, one pair of chunks swapped (here the 2nd and the 4th)

      A B      B D          A B      D C           time   0-3   4-7   8-11  12-15
      C D  ->  A C          C D  ->  B A           ->     0-3  12-15  8-11   4-7

Class 0 is the clip as it is. Class 4 is a clip from elsewhere in the video: the loader decodes that one in the middle
clip's place, and nothing is left to do here.

Source: Luo et al., "Video Cloze Procedure for Self-Supervised Spatio-Temporal Learning", arXiv 2001.00294, as used by
PCL, arXiv 2010.15464.
"""

from dataclasses import dataclass
from itertools import combinations

import numpy as np
import torch
from numpy.typing import NDArray

from pclkd.pipeline.randomness import Purpose, words

__all__ = ["CHUNK_PAIRS", "CLASS_NAMES", "VcpDraw", "apply", "draw"]

CLASS_NAMES = ("original", "rotated", "quadrants", "chunks", "remote")
_ROTATED, _QUADRANTS, _CHUNKS, _REMOTE = 1, 2, 3, 4
_CHUNK_COUNT = 4

CHUNK_PAIRS = tuple(combinations(range(_CHUNK_COUNT), 2))
"""The pair of chunks that each variant of class 3 swaps."""

_VARIANTS = np.array([1, 3, 1, len(CHUNK_PAIRS), 1])


@dataclass(frozen=True, eq=False)
class VcpDraw:
    """What is done to the middle clips of B samples. On the host, so that the device is never waited for.

    Attributes:
        label: [B] int64, the class, 0-4.
        variant: [B] int64; class 1: 0-2 for 90, 180, 270 degrees counter-clockwise; class 3: which of CHUNK_PAIRS;
            else 0.
    """

    label: NDArray[np.int64]
    variant: NDArray[np.int64]


def draw(seed: int, epoch: int, sample_ids: NDArray[np.int64], has_remote: NDArray[np.bool_]) -> VcpDraw:
    """Classes uniform over 0-4, or over 0-3 where the video has no room for a remote clip; variants uniform.

    Args:
        seed: the run's seed.
        epoch: the epoch.
        sample_ids: [B].
        has_remote: [B], whether the video has room for a remote clip.
    """
    chance = words(seed, epoch, sample_ids, Purpose.PRETEXT, 2)
    label = (chance[:, 0] * np.where(has_remote, len(CLASS_NAMES), _REMOTE)) >> 32
    variant = (chance[:, 1] * _VARIANTS[label]) >> 32
    return VcpDraw(label, variant)


def apply(clips: torch.Tensor, drawn: VcpDraw) -> torch.Tensor:
    """The transformed clips, in new memory.

    Rows that get the same transform are done together: at most 10 groups, whatever the batch size.

    Args:
        clips: [B, C, T, H, W], the middle clips, on any device.
        drawn: of the same B samples.

    Returns:
        [B, C, T, H, W].

    Raises:
        ValueError: T is not a multiple of 4, the frames are not square with an even side, or B differs.
    """
    batch, _, frames, height, width = clips.shape
    if batch != len(drawn.label):
        raise ValueError(f"{batch} clips, but {len(drawn.label)} draws")
    if frames % _CHUNK_COUNT:
        raise ValueError(f"a clip of {frames} frames does not divide into {_CHUNK_COUNT} chunks")
    if height != width or height % 2:
        raise ValueError(f"frames of {height} x {width} pixels are not square with an even side")
    result = clips.clone()
    kind = drawn.label * len(CHUNK_PAIRS) + drawn.variant
    order = np.argsort(kind, kind="stable")
    rows = torch.from_numpy(order)
    if clips.is_cuda:
        rows = rows.pin_memory().to(clips.device, non_blocking=True)
    starts = np.flatnonzero(np.diff(kind[order], prepend=-1))
    for start, end in zip(starts, [*starts[1:], batch], strict=True):
        label, variant = int(drawn.label[order[start]]), int(drawn.variant[order[start]])
        if label in (_ROTATED, _QUADRANTS, _CHUNKS):
            group = rows[start:end]
            result.index_copy_(0, group, _transform(clips.index_select(0, group), label, variant))
    return result


def _transform(clips: torch.Tensor, label: int, variant: int) -> torch.Tensor:
    """One transform for all of [N, C, T, H, W]."""
    if label == _ROTATED:
        return torch.rot90(clips, variant + 1, dims=(3, 4))
    if label == _QUADRANTS:
        # D C / B A for A B / C D: every quadrant moves by half a side down and right, around the edges.
        half = clips.shape[-1] // 2
        return torch.roll(clips, (half, half), dims=(3, 4))
    chunks = list(clips.chunk(_CHUNK_COUNT, dim=2))
    i, j = CHUNK_PAIRS[variant]
    chunks[i], chunks[j] = chunks[j], chunks[i]
    return torch.cat(chunks, dim=2)
