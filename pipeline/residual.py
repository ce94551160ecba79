"""The residual modality: what moves, instead of what is there.

Source: PCL, arXiv 2010.15464, in the form of its published code: x[t-1] - x[t] after normalisation, frame 0 against the
last frame.
"""

import torch

__all__ = ["residual"]


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
