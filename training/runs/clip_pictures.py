"""Clips as pictures: what the network sees, made visible."""

import numpy as np
import torch
import torch.nn.functional as F

from pclkd.pipeline.pixels.colours import MEAN, STD

__all__ = ["clip_strip", "thumbnails"]

_FRAMES = 8
_SIDE = 48


def clip_strip(clips: torch.Tensor, *, residual: bool) -> torch.Tensor:
    """A picture of clips: a row a clip, evenly spaced frames from left to right.

    Args:
        clips: [V, C, T, H, W], normalised.
        residual: whether they are differences of frames; those are shown around mid-grey.

    Returns:
        [C, V * H, frames * W] in [0, 1], on the host.
    """
    chosen = np.linspace(0, clips.shape[2] - 1, min(_FRAMES, clips.shape[2])).round().astype(int)
    # v = clip, c = channel, t = frame
    frames = clips[:, :, torch.from_numpy(chosen)].permute(0, 2, 1, 3, 4)
    return _shown(frames, residual=residual).permute(2, 0, 3, 1, 4).flatten(3, 4).flatten(1, 2).cpu()


def thumbnails(clips: torch.Tensor, *, residual: bool) -> torch.Tensor:
    """[B, 3, 48, 48] in [0, 1], on the host: the middle frame of the first clip of clips [B, V, C, T, H, W]."""
    frames = _shown(clips[:, 0, :, clips.shape[3] // 2], residual=residual)
    return F.interpolate(frames, size=(_SIDE, _SIDE), mode="bilinear", antialias=True, align_corners=False).cpu()


def _shown(frames: torch.Tensor, *, residual: bool) -> torch.Tensor:
    """Normalised frames [..., 3, H, W] -> [0, 1]."""
    mean, std = (torch.tensor(values, device=frames.device).view(3, 1, 1) for values in (MEAN, STD))
    # A difference of two frames reaches from -1 to 1.
    return ((0.5 * frames.float() * std + 0.5) if residual else frames.float() * std + mean).clamp(0, 1)
