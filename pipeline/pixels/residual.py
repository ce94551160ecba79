"""The residual modality: what moves, instead of what is there.

Source: PCL, arXiv 2010.15464, in the form of its published code: x[t-1] - x[t] after normalisation, frame 0 against the
last frame.
"""

import numpy as np
import torch

__all__ = ["residual", "residual_"]


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
