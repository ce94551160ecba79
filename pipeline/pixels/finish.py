"""What is done to clips when they are decoded and augmented: the pretext transform, then the residual."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from pclkd.pipeline.pretext.base import PretextDraw

__all__ = ["ClipFinish", "residual", "residual_"]


def residual(clips: torch.Tensor) -> torch.Tensor:
    """Each frame's predecessor minus the frame; the first frame's predecessor is the last.

    Args:
        clips: [..., C, T, H, W].

    Returns:
        The same shape in new memory, in the same memory order.
    """
    result = torch.empty_like(clips)
    torch.sub(clips[..., :-1, :, :], clips[..., 1:, :, :], out=result[..., 1:, :, :])
    torch.sub(clips[..., -1, :, :], clips[..., 0, :, :], out=result[..., 0, :, :])
    return result


def residual_(clips: torch.Tensor) -> torch.Tensor:
    """`residual` in the clips' own memory: on a CPU several times as fast, because no new pages are asked for.

    Args:
        clips: [..., C, T, H, W]; overwritten.

    Returns:
        The same tensor.
    """
    last = clips[..., -1, :, :].clone()
    for t in range(clips.shape[-3] - 1, 0, -1):
        _subtract(clips[..., t - 1, :, :], clips[..., t, :, :])
    _subtract(last, clips[..., 0, :, :])
    return clips


def _subtract(before: torch.Tensor, frames: torch.Tensor) -> None:
    """Replace `frames` by `before` - `frames`."""
    if frames.device.type == "cpu":  # numpy starts no threads, which would only wait for those that decode
        np.subtract(before.numpy(), frames.numpy(), out=frames.numpy())
    else:
        torch.sub(before, frames, out=frames)


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
        return self.keeps_time(samples) if self.residual else np.zeros(samples, np.bool_)

    def keeps_time(self, samples: int) -> NDArray[np.bool_]:
        """[B] bool, the samples whose pretext transform leaves all frames in their order."""
        return np.ones(samples, np.bool_) if self.draw is None else self.draw.keeps_time

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
