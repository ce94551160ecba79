"""Clips as the loader delivers them, turned back into frames."""

from collections.abc import Iterator
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from pclkd.pipeline.config import DataSettings
from pclkd.pipeline.opening import clip_loader
from pclkd.pipeline.pixels.colours import MEAN, STD
from pclkd.pipeline.world import World
from pclkd.sharding.common.pictures import Frame
from pclkd.sharding.shards.index import ShardIndex

__all__ = ["load_clips", "residual_levels", "rgb_levels"]


def load_clips(
    index: ShardIndex,
    ids: NDArray[np.int64],
    settings: DataSettings,
    modality: Literal["rgb", "residual"],
    **changes: Any,
) -> Iterator[tuple[int, torch.Tensor]]:
    """Row of `ids` and clips [V, C, T, H, W] on the host, of epoch 0 and in order; damaged samples are left out.

    Args:
        index: the shard set.
        ids: [n] sample ids.
        settings: of the data.
        modality: instead of that of the settings.
        changes: other settings of the loader, as `clip_loader` takes them.
    """
    how: dict[str, Any] = {
        "shuffle": False,
        "modality": modality,
        "batch_size": min(8, len(ids)),
        "quarantine_limit_pct": 100.0,
    }
    with clip_loader(index, settings, World(), samples=ids, device=torch.device("cpu"), **how, **changes) as loader:
        for batch in loader.epoch(0):
            for row, clips in list(zip(batch.sample_index, batch.clips, strict=True))[: batch.valid]:
                yield int(row), clips.clone()


def rgb_levels(clips: torch.Tensor) -> Frame:
    """Normalised clips [V, C, T, H, W] -> uint8 [V, T, H, W, C]."""
    return _levels(clips * _axis(STD) + _axis(MEAN))


def residual_levels(clips: torch.Tensor, *, gain: float) -> Frame:
    """Normalised residuals [V, C, T, H, W] -> uint8 [V, T, H, W, C], grey where nothing moves."""
    return _levels(gain * clips * _axis(STD) + 128 / 255)


def _axis(values: tuple[float, ...]) -> torch.Tensor:
    return torch.tensor(values).view(3, 1, 1, 1)


def _levels(clips: torch.Tensor) -> Frame:
    return (255 * clips).round().clamp(0, 255).byte().permute(0, 2, 3, 4, 1).numpy()
