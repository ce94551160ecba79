"""Further views of the clips of a batch: from the same decoded windows, each in its own size, colours and frame rate.

    decoded windows --resize, flip, colours, normalise--> --pretext transform--> --some of the frames--> --residual-->

The pretext transform sees all frames of a clip, so that what is done to a clip in time is done to its further views
too; only where a sample's frames keep their order, those that are not shown are left out before.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from pclkd.pipeline.clips.augment import ClipAugment
from pclkd.pipeline.clips.moments import MomentView
from pclkd.pipeline.pixels.colours import normalised
from pclkd.pipeline.pixels.finish import ClipFinish, residual_
from pclkd.pipeline.pixels.fused import FusedColours

__all__ = ["FusedMoment", "blur_of", "moment_of"]


def blur_of(augment: ClipAugment, view: MomentView, crop: int) -> NDArray[np.float32]:
    """[B, V] standard deviations of the blur in pixels of the view: as wide in the picture as the clip's.

    Args:
        augment: of the clips.
        view: the view.
        crop: height and width of the clips, in pixels.
    """
    return (augment.sigma * (view.size / crop)).astype(np.float32)


def moment_of(clips: torch.Tensor, view: MomentView) -> torch.Tensor:
    """The frames that a view shows, of clips in its size, after the pretext transform.

    Args:
        clips: [B, V, C, T, H, W], owned by the caller alone; may be overwritten.
        view: the view.

    Returns:
        [B, V, C, T', H, W].
    """
    chosen = view.chosen(clips.shape[3])
    if not np.array_equal(chosen, np.arange(clips.shape[3])):
        clips = clips.index_select(3, torch.from_numpy(chosen).to(clips.device))
    return residual_(clips) if view.modality == "residual" else clips


class FusedMoment:
    """Makes one view on a CPU, beside the clips themselves.

    Args:
        view: the view.
        crop: height and width of the clips, in pixels.
        threads: clips done at once.
    """

    def __init__(self, view: MomentView, crop: int, threads: int) -> None:
        self._view, self._crop = view, crop
        self._fused = FusedColours((view.size, view.size), threads, normalised(view.mean, view.std))

    def apply(self, windows: Any, augment: ClipAugment, finish: ClipFinish, frames: int) -> torch.Tensor:
        """The view [B, V, C, T', H, W] of a batch.

        Args:
            windows: as in `FusedColours.apply`.
            augment: of the clips.
            finish: the clips' pretext transform; its residual is not heeded.
            frames: of a clip.
        """
        shown: Sequence[int] = self._view.chosen(frames).tolist()
        made = self._fused.apply(windows, self._augment(augment), ClipFinish(finish.draw), shown)
        return moment_of(made.permute(0, 1, 5, 2, 3, 4), self._view)

    def close(self) -> None:
        """End the threads."""
        self._fused.close()

    def _augment(self, augment: ClipAugment) -> ClipAugment:
        if self._view.colours:
            return replace(augment, sigma=blur_of(augment, self._view, self._crop))
        one, zero = np.ones_like(augment.hue), np.zeros_like(augment.hue)
        return replace(augment, brightness=one, contrast=one, saturation=one, hue=zero, sigma=zero)
