"""The clip loader: index -> order -> plan -> range reads -> DALI -> ClipBatch."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from types import TracebackType
from typing import Literal, Self

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field

from pclkd.pipeline import order
from pclkd.pipeline.batch import ClipBatch
from pclkd.pipeline.calibrate import choose_decoder
from pclkd.pipeline.dali import FrameDecoder, FrameGraph
from pclkd.pipeline.prepare import BatchPreparer, PreparedBatch
from pclkd.pipeline.recipe import Recipe
from pclkd.pipeline.residual import residual
from pclkd.pipeline.settings import Settings
from pclkd.pipeline.stages import Stages
from pclkd.pipeline.statistics import LoaderStatistics
from pclkd.pipeline.world import World
from pclkd.sharding.errors import InputError
from pclkd.sharding.index import ShardIndex

__all__ = ["ClipLoader", "LoaderSettings"]


class LoaderSettings(Settings):
    """How clips are cropped, delivered and prefetched."""

    batch_size: int = Field(default=16, ge=1)
    """Samples a step and process."""
    crop: int = Field(default=112, ge=16, multiple_of=2)
    """Height and width of a clip, in pixels."""
    modality: Literal["residual", "rgb"] = "residual"
    """residual: each frame minus its predecessor, as the published code's default; rgb: the frames themselves."""
    decode: Literal["auto", "cpu", "mixed"] = "auto"
    """Where JPEGs are decoded; auto times both at start-up where there is a GPU."""
    threads: int = Field(default=0, ge=0)
    """Threads that read and that decode, each; 0 takes one a core, divided by the processes of this machine."""
    prefetch: int = Field(default=2, ge=1)
    """Batches kept ready."""


class ClipLoader:
    """Delivers the clips of one part of a split as `ClipBatch`es.

    Args:
        index: the shard set.
        samples: [n] sample ids, as `ShardIndex.split_samples` gives them.
        recipe: what to do with a sample.
        settings: shapes and prefetching.
        seed: keys the order and the replacements.
        world: the processes that share the work.
        device: where batches are delivered.
        training: True shuffles, drops the last short batch and replaces damaged samples; False goes through all
            samples in order, once, and leaves damaged ones out.

    Raises:
        InputError: the crop does not fit the stored frames, too few samples for one step, or nvJPEG without a GPU.
    """

    def __init__(
        self,
        index: ShardIndex,
        samples: NDArray[np.int64],
        recipe: Recipe,
        settings: LoaderSettings,
        *,
        seed: int = 0,
        world: World | None = None,
        device: torch.device | None = None,
        training: bool = True,
    ) -> None:
        height, width = index.smallest_frame
        if settings.crop > min(height, width):
            raise InputError(
                f"loader.crop {settings.crop} does not fit the stored frames of {height}x{width} in {index.root}",
                remedy=f"--set loader.crop={min(height, width) // 2 * 2} or less, or pack with a larger --size",
            )
        device = device or torch.device("cpu")
        if settings.decode == "mixed" and device.type != "cuda":
            raise InputError("loader.decode=mixed needs a GPU, and this process has none", remedy="use decode=auto")
        self.settings = settings
        self.recipe = recipe
        self.statistics = LoaderStatistics()
        self._index, self._samples = index, samples
        self._seed, self._training = seed, training
        self._world = world or World()
        self._device = device
        self._steps = (order.shuffled_steps if training else order.sequential_steps)(
            len(samples), settings.batch_size, self._world
        )
        self._threads = settings.threads or self._world.cores
        self._preparer = BatchPreparer(
            index, samples, recipe, settings.crop, seed, settings.batch_size, replace=training
        )
        self._readers = ThreadPoolExecutor(self._threads, thread_name_prefix="pclkd-read")
        self._decoder: FrameDecoder | None = None
        self._running: Stages | None = None

    def __len__(self) -> int:
        """Steps an epoch, the same on every rank."""
        return self._steps

    def epoch(self, epoch: int, first_step: int = 0) -> Iterator[ClipBatch]:
        """The batches of one epoch from `first_step` on; a pure function of (seed, epoch, step, rank, world size)."""
        self._stop()
        positions = self._positions(epoch)[first_step:]
        decoder = self._ready_decoder()
        read = partial(self._preparer.read, epoch=epoch, statistics=self.statistics)
        self._running = Stages(read, decoder, positions, self._readers, self.settings.prefetch, self.statistics)
        try:
            for _ in range(len(positions)):
                began = time.perf_counter()
                item = self._running.next()
                self.statistics.add(wait_s=time.perf_counter() - began)
                if item is None:  # every sample of an evaluation batch was damaged
                    continue
                prepared, frames = item
                self.statistics.add(clips=prepared.valid * self.recipe.views)
                yield self._finish(prepared, frames)
        finally:
            self._stop()

    def close(self) -> None:
        """End all threads and close the shards."""
        self._stop()
        self._readers.shutdown(wait=True, cancel_futures=True)
        self._preparer.close()
        self._decoder = None

    def __enter__(self) -> Self:
        """The loader itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the loader."""
        self.close()

    def _positions(self, epoch: int) -> list[NDArray[np.int64]]:
        size, n = self.settings.batch_size, len(self._samples)
        if self._training:
            return list(order.shuffled_positions(self._seed, epoch, n, size, self._world))
        return order.sequential_positions(n, size, self._world)

    def _ready_decoder(self) -> FrameDecoder:
        if self._decoder is None:
            graph = FrameGraph(
                frames=self.settings.batch_size * self.recipe.views * self.recipe.clip_frames,
                crop=(self.settings.crop, self.settings.crop),
                colours=self.recipe.colours,
                decode="mixed" if self.settings.decode == "mixed" else "cpu",
                device=self._device,
                threads=self._threads,
            )
            probe = None
            if self.settings.decode == "auto" and self._device.type == "cuda":
                probe = self._preparer.read(self._positions(0)[0], 0)
            self._decoder = FrameDecoder(graph) if probe is None else choose_decoder(graph, probe)
        return self._decoder

    def _finish(self, prepared: PreparedBatch, frames: torch.Tensor) -> ClipBatch:
        views, length = self.recipe.views, self.recipe.clip_frames
        # [B*V*T, H, W, C] -> [B, V, C, T, H, W]: a view, whose memory is exactly that of channels_last_3d.
        clips = frames.reshape(-1, views, length, *frames.shape[1:]).permute(0, 1, 5, 2, 3, 4)
        draw = prepared.plan.pretext
        if draw is not None:
            clips = draw.apply(clips)  # may overwrite them: the frames are ours alone
        if self.settings.modality == "residual":
            clips = residual(clips)

        def on_device(values: NDArray[np.int64]) -> torch.Tensor:
            return torch.from_numpy(values).to(self._device, non_blocking=True)

        labels = draw.label if draw is not None else np.zeros(len(prepared.positions), np.int64)
        return ClipBatch(
            clips=clips,
            pretext_label=on_device(labels),
            sample_index=on_device(prepared.positions),
            label=on_device(self._index.sample_label[self._samples[prepared.positions]].astype(np.int64)),
            epoch=prepared.epoch,
            valid=prepared.valid,
        )

    def _stop(self) -> None:
        if self._running is not None:
            self._running.stop()
            self._running = None
