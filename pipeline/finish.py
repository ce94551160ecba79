"""The last stage: decoded frames to a `ClipBatch`, on the device."""

import numpy as np
import torch
from numpy.typing import NDArray

from pclkd.pipeline.batch import ClipBatch
from pclkd.pipeline.prepare import PreparedBatch
from pclkd.pipeline.residual import residual_

__all__ = ["finish_batch"]


def finish_batch(
    prepared: PreparedBatch,
    frames: torch.Tensor,
    shape: tuple[int, int],
    labels: NDArray[np.int64],
    *,
    residual: bool,
) -> ClipBatch:
    """Put the frames together to clips, apply the pretext transforms, take residuals.

    Args:
        prepared: what was decoded.
        frames: [B * V * T, H, W, C], owned by the caller alone; may be written to.
        shape: (V, T), clips a sample and frames a clip.
        labels: [B] action classes.
        residual: each frame minus its predecessor, or the frames themselves.
    """
    # [B*V*T, H, W, C] -> [B, V, C, T, H, W]: a view, whose memory is exactly that of channels_last_3d.
    clips = frames.reshape(-1, *shape, *frames.shape[1:]).permute(0, 1, 5, 2, 3, 4)
    draw = prepared.plan.pretext
    if draw is not None:
        clips = draw.apply(clips)  # may overwrite them: the frames are ours alone
    if residual:
        clips = residual_(clips)

    def on_device(values: NDArray[np.int64]) -> torch.Tensor:
        return torch.from_numpy(values).to(frames.device, non_blocking=True)

    return ClipBatch(
        clips=clips,
        pretext_label=on_device(draw.label if draw is not None else np.zeros(len(labels), np.int64)),
        sample_index=on_device(prepared.positions),
        label=on_device(labels),
        epoch=prepared.epoch,
        valid=prepared.valid,
    )
