"""What is done to clips when they are decoded and augmented: the pretext transform, then the residual."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from pclkd.pipeline.pixels.residual import residual_
from pclkd.pipeline.pretext.base import PretextDraw

__all__ = ["ClipFinish"]


@dataclass(frozen=True)
class ClipFinish:
    """The last steps of a batch of B samples.

    Attributes:
        draw: the pretext transforms of the B samples, or None.
        residual: each frame minus its predecessor, or the frames themselves.
    """

    draw: PretextDraw | None = None
    residual: bool = False

    def differences_first(self, samples: int) -> NDArray[np.bool_]:
        """[B] bool, the samples whose residual may be taken before their pretext transform, with the same result."""
        if self.draw is None or not self.residual:
            return np.full(samples, self.residual)
        return self.draw.keeps_time

    def batch(self, clips: torch.Tensor) -> torch.Tensor:
        """All B samples.

        Args:
            clips: [B, V, C, T, H, W], owned by the caller alone; may be overwritten.

        Returns:
            [B, V, C, T, H, W] in the same memory order.
        """
        if self.draw is not None:
            clips = self.draw.apply(clips)
        return residual_(clips) if self.residual else clips

    def sample_(self, b: int, clips: torch.Tensor, *, differences: bool = False) -> None:
        """Sample b alone, in place: while its clips are still in the core's cache.

        Args:
            b: 0 to B - 1.
            clips: [1, V, C, T, H, W]; overwritten.
            differences: whether they are differences of frames already.
        """
        draw = self.draw.sample(b) if self.draw is not None else None
        done = ClipFinish(draw, self.residual and not differences).batch(clips)
        if done.data_ptr() != clips.data_ptr() or done.stride() != clips.stride():  # a task may answer with new memory
            clips.copy_(done)
