"""The last stage: what was planned and what was decoded, put together as the batch that the consumer gets."""

import numpy as np
import torch
from numpy.typing import NDArray

from pclkd.pipeline.batch import ClipBatch
from pclkd.pipeline.loader.prepare import PreparedBatch

__all__ = ["delivered_batch"]


def delivered_batch(prepared: PreparedBatch, made: tuple[torch.Tensor, ...], labels: NDArray[np.integer]) -> ClipBatch:
    """A batch on its device.

    Args:
        prepared: as it was planned and read.
        made: its clips [B, V, C, T, H, W], with their further views behind them.
        labels: [B] action classes.
    """
    clips, *moments = made
    if clips.is_cuda:  # made on another stream: their memory is not to be used again before our kernels are done
        for one in made:
            one.record_stream(torch.cuda.current_stream(one.device))
    draw = prepared.plan.pretext

    def on_device(values: NDArray[np.integer]) -> torch.Tensor:
        return torch.from_numpy(values.astype(np.int64, copy=False)).to(clips.device, non_blocking=True)

    return ClipBatch(
        clips=clips,
        pretext_label=on_device(draw.label if draw is not None else np.zeros(len(labels), np.int64)),
        sample_index=on_device(prepared.positions),
        label=on_device(labels),
        epoch=prepared.epoch,
        valid=prepared.valid,
        moments=tuple(moments),
    )
