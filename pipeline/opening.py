"""One call from a folder of shards to batches of clips."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from pclkd.pipeline.clips.moments import MomentView
from pclkd.pipeline.config import ClipConfig, DataSettings, changed
from pclkd.pipeline.device import own_device
from pclkd.pipeline.loader.loader import ClipLoader
from pclkd.pipeline.world import World
from pclkd.sharding.common.errors import InputError
from pclkd.sharding.shards.index import ShardIndex

__all__ = ["clip_loader"]


def clip_loader(
    shards: str | Path | ShardIndex,
    config: DataSettings | None = None,
    world: World | None = None,
    *,
    samples: NDArray[np.int64] | None = None,
    device: torch.device | None = None,
    moments: Sequence[MomentView] = (),
    **changes: Any,
) -> ClipLoader:
    """Open a shard set and deliver its clips as `ClipBatch`es.

        with clip_loader("ucf101-shards", batch_size=16, modality="rgb") as loader:
            for epoch in range(100):
                for batch in loader:
                    batch.clips  # [16, 3, 3, 16, 112, 112]

    Args:
        shards: folder or URL (`s3://...`) of a shard set, or its index.
        config: what is delivered, a `ClipConfig` or the settings of a run; by default PCL's tuples of the train part of
            split 1.
        world: the processes that share the work; by default as torchrun tells them in the environment.
        samples: [n] sample ids to deliver instead of the part's.
        device: where batches are delivered; by default this process' GPU (`own_device`), or the CPU where there is
            none.
        moments: further views of every clip, of the same decoded frames: `batch.moments`.
        changes: settings of the config, or of its `loader`, that differ from it.

    Raises:
        InputError: no such shard set, or settings that do not fit it; the remedy is told.
    """
    config = changed(config or ClipConfig(), changes)
    world = world or World.from_environment()
    index = shards if isinstance(shards, ShardIndex) else ShardIndex.open(shards)
    if samples is None:
        if config.part == "all":
            if config.fraction != 1:
                raise InputError(
                    f"fraction={config.fraction} is a share of the train part, and part='all' takes every video",
                    remedy="leave out one of them",
                )
            samples = np.arange(len(index))
        elif config.part == "train":
            samples = config.train_samples(index)
        else:
            samples = index.split_samples(config.split, config.part)
    return ClipLoader(
        index,
        samples,
        config.chosen_recipe(),
        config.loader,
        seed=config.seed,
        world=world,
        device=device or own_device(world),
        training=config.shuffled,
        moments=moments,
    )
