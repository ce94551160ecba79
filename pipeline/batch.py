"""What the loader hands to a trainer."""

from dataclasses import dataclass

import torch

__all__ = ["ClipBatch"]


@dataclass(frozen=True)
class ClipBatch:
    """Clips of B samples, V views each, on the training device.

    Attributes:
        clips: [B, V, C, T, H, W] float32, normalised. For PCL the views are the three consecutive clips of a tuple,
            the middle one already transformed by the pretext task.
        pretext_label: [B] int64, the class of the pretext transform (0-4 for VCP).
        sample_index: [B] int64, position of the video within its split: the row of a memory bank.
        label: [B] int64, action class, 0-based. Never used by self-supervised training.
        epoch: the epoch the samples were drawn in; with sample_index it keys every further random draw.
        valid: how many of the B samples are real; the rest repeat the last one to fill a final short batch.
        moments: [B, V, C, T', H', W'] float32 each: the same moments as other networks want to see them, in the order
            of the loader's `moments`.
    """

    clips: torch.Tensor
    pretext_label: torch.Tensor
    sample_index: torch.Tensor
    label: torch.Tensor
    epoch: int
    valid: int
    moments: tuple[torch.Tensor, ...] = ()
