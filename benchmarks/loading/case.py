"""Which clips a benchmark of loaders delivers, and how: the same for this package, its bounds and its peers."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from pclkd.benchmarks.measuring.clip_shape import ClipShape, synchronise
from pclkd.pipeline.clips.augment import AugmentSettings
from pclkd.pipeline.clips.recipe import TupleRecipe
from pclkd.pipeline.config import Operators
from pclkd.pipeline.loader.loader import ClipLoader
from pclkd.pipeline.opening import clip_loader
from pclkd.pipeline.pixels.dali import Colours, FrameGraph
from pclkd.pipeline.world import World
from pclkd.sharding.common.errors import InputError
from pclkd.sharding.shards.index import ShardIndex
from pclkd.training.compute.distributed import choose_device

__all__ = ["LoadCase", "Place", "RecipeName"]


Place = Literal["cpu", "mixed"]
"""Where JPEGs are decoded."""
RecipeName = Literal["plain", "full"]
"""plain: crop, flip, normalise; full: colours, blur, pretext task and residual as well."""

_NO_COLOURS = AugmentSettings(jitter_probability=0, grayscale_probability=0, blur_probability=0)


@dataclass(frozen=True)
class LoadCase:
    """One pass of a benchmark.

    Attributes:
        index: the shard set.
        samples: [n] sample ids, the first n of the set, n a multiple of the batch size.
        shape: of a batch.
        name: of the recipe.
        workers: threads of this package's loader and processes of others.
        device: where batches are delivered.
    """

    index: ShardIndex
    samples: NDArray[np.int64]
    shape: ClipShape
    name: RecipeName
    workers: int
    device: torch.device

    @classmethod
    def choose(cls, data: str | Path, name: RecipeName, shape: ClipShape, samples: int, workers: int) -> "LoadCase":
        """Open the shard set and take whole batches of its first `samples` samples at most; 0 workers: one a core.

        Raises:
            InputError: a shard set that cannot be read, too few samples for a batch, or a crop that does not fit.
        """
        index = ShardIndex.open(data)
        batches = min(len(index), samples) // shape.batch_size
        if not batches:
            raise InputError(
                f"{min(len(index), samples)} samples of {data} do not fill a batch of {shape.batch_size}",
                remedy="lower --batch-size or raise --samples",
            )
        ids = np.arange(batches * shape.batch_size)
        return cls(index, ids, shape.fitted(index), name, workers or World().cores, choose_device(World()))

    @property
    def recipe(self) -> TupleRecipe:
        """What is done with a sample."""
        if self.name == "plain":
            return TupleRecipe(seed=0, tuples=self.shape.tuples, augment=_NO_COLOURS, pretext=None)
        return TupleRecipe(seed=0, tuples=self.shape.tuples)

    @property
    def residual(self) -> bool:
        """Whether clips are differences of frames."""
        return self.name == "full"

    @property
    def settings(self) -> dict[str, Any]:
        """For a result."""
        height, width = self.index.smallest_frame
        return {
            "recipe": self.name,
            "clips_per_pass": self.shape.views * len(self.samples),
            **self.shape.as_dict(),
            "stored_frames": f"{height}x{width}",
            "workers": self.workers,
            "device": self.device.type,
            "data_fingerprint": self.index.fingerprint[:16],
        }

    def loader(
        self, decode: Place | Literal["auto"] = "auto", threads: int | None = None, operators: Operators = "auto"
    ) -> ClipLoader:
        """This package's loader, in as many threads; it decodes and augments as it finds best or as it is told."""
        return clip_loader(
            self.index,
            self.shape.config,
            World(),
            samples=self.samples,
            device=self.device,
            recipe=self.recipe,
            decode=decode,
            operators=operators,
            threads=threads or self.workers,
            modality="residual" if self.residual else "rgb",
        )

    @property
    def places(self) -> tuple[Place, ...]:
        """Where frames can be decoded here, the usual place last."""
        return ("cpu", "mixed") if self.device.type == "cuda" else ("cpu",)

    def graph(self, colours: Colours, decode: Place | None = None) -> FrameGraph:
        """What decodes a batch, in the usual place unless told."""
        return FrameGraph(
            frames=self.shape.batch_size * self.shape.views * self.shape.frames,
            crop=(self.shape.side, self.shape.side),
            colours=colours,
            decode=decode or self.places[-1],
            device=self.device,
            threads=self.workers,
        )

    def drain(self, batches: Iterable[torch.Tensor]) -> float:
        """Take all batches [B, V, ...] and bring them to the device; how many clips they held."""
        clips = 0
        for batch in batches:
            batch.to(self.device, non_blocking=True)
            clips += batch.shape[0] * batch.shape[1]
        synchronise(self.device)
        return clips
