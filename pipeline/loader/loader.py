"""The clip loader: index -> order -> plan -> range reads -> DALI -> ClipBatch."""

import os
import time
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from types import TracebackType
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray

from pclkd.pipeline.batch import ClipBatch
from pclkd.pipeline.clips.moments import MomentView
from pclkd.pipeline.clips.recipe import Recipe
from pclkd.pipeline.config import LoaderSettings, PixelPath
from pclkd.pipeline.device import exact
from pclkd.pipeline.loader import order
from pclkd.pipeline.loader.calibrate import Calibration, check_decoding, choose_decoder, choose_operators
from pclkd.pipeline.loader.delivery import delivered_batch
from pclkd.pipeline.loader.faults import Quarantine
from pclkd.pipeline.loader.order import LoaderState, data_fingerprint
from pclkd.pipeline.loader.prepare import BatchPreparer, PreparedBatch
from pclkd.pipeline.loader.stages import Pass, Positions, Stages
from pclkd.pipeline.loader.threads import DaemonPool
from pclkd.pipeline.pixels.dali import FrameDecoder
from pclkd.pipeline.pixels.frame_graph import Colours, FrameGraph
from pclkd.pipeline.reading.remote import open_source
from pclkd.pipeline.statistics import LoaderStatistics
from pclkd.pipeline.world import World
from pclkd.sharding.shards.index import ShardIndex

__all__ = ["ClipLoader"]

_CLOSE_LIMIT_S = 0.3  # for reader threads; one that hangs in a dead disk cannot keep the program


class ClipLoader:
    """Delivers the clips of one part of a split as `ClipBatch`es.

    `for batch in loader` goes through what is left of the epoch under way. After the last batch a training loader
    stands at the next epoch and reads its first batches ahead; an evaluation loader stands at its first sample again.
    A loop that is left early goes on, when it is begun again, with the batch after the last one it was given.

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
        moments: further views of every clip, `ClipBatch.moments`, for networks that want to see it otherwise.

    Attributes:
        settings: as given.
        recipe: as given.
        moments: as given.
        statistics: what each stage did.
        calibration: how frames become clips and why; None before the first batch, or `calibrate`, is asked for.

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
        moments: Sequence[MomentView] = (),
    ) -> None:
        device = exact(device or torch.device("cpu"))
        check_decoding(index, settings, device)
        self.settings = settings
        self.recipe = recipe
        self.moments = tuple(moments)
        for view in self.moments:
            view.chosen(recipe.clip_frames)  # refuses what reaches beyond the clip
        self._index, self._samples = index, samples
        self._training, self._device = training, device
        self._world = world or World()
        self._state = LoaderState(0, 0, seed, training, len(samples), data_fingerprint(index, samples))
        self._resumed = False
        self._left(self._state)  # refuses too few samples
        self._threads = settings.threads or self._world.cores
        self.statistics = LoaderStatistics(readers=self._threads)
        self._quarantine = Quarantine(index, settings.quarantine_limit_pct, self.statistics)
        self._preparer = BatchPreparer(
            index,
            samples,
            recipe,
            settings.crop,
            seed,
            settings.batch_size,
            replace=training,
            source=open_source(index, settings, self.statistics),
        )
        self._decoders: list[FrameDecoder] = []
        self.calibration: Calibration | None = None
        self._running: dict[LoaderState, Stages] = {}
        self._readers = DaemonPool(self._threads, "pclkd-read")
        # Also for loaders that nobody closes: threads end with the loader, or with the program.
        self._process = os.getpid()
        self._finalizer = weakref.finalize(
            self, _close, self._process, self._running, self._decoders, self._preparer, self._readers
        )

    def __len__(self) -> int:
        """Steps of a whole epoch, the same on every rank."""
        return self._left(self._place(0, 0))

    @property
    def clips_shape(self) -> tuple[int, int, int, int, int, int]:
        """[B, V, C, T, H, W] of a full batch."""
        settings, recipe = self.settings, self.recipe
        return settings.batch_size, recipe.views, 3, recipe.clip_frames, settings.crop, settings.crop

    @property
    def moment_shapes(self) -> list[tuple[int, int, int, int, int, int]]:
        """[B, V, C, T', H', W'] of each further view of a full batch."""
        return [(*self.clips_shape[:3], view.frames, view.size, view.size) for view in self.moments]

    @property
    def steps_left(self) -> int:
        """Steps left of the epoch under way, the same on every rank."""
        return self._left(self._state)

    def __iter__(self) -> Iterator[ClipBatch]:
        """The batches left of the epoch under way; see the class."""
        self._resumed = False
        return self._deliver(self._state, goes_on=self._training)

    def epoch(self, epoch: int, first_step: int = 0) -> Iterator[ClipBatch]:
        """The batches of one epoch from `first_step` on; nothing is read ahead beyond its end."""
        return self._deliver(self._place(epoch, first_step * self._step_samples), goes_on=False)

    def set_epoch(self, epoch: int) -> None:
        """Go to the beginning of an epoch; right after `load_state_dict`, a loaded place within it is kept."""
        if not (self._resumed and epoch == self._state.epoch):
            self._state = self._place(epoch, 0)
        self._resumed = False

    def state_dict(self) -> dict[str, Any]:
        """Where the loader stands, in plain values; the batch handed out last counts as done. The same on all ranks."""
        return self._state.as_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where `state` was taken, with this loader's own number of processes and batch size.

        Raises:
            InputError: a state of other data, of another seed, or none at all.
        """
        self._state = self._state.moved_to(state)
        self._resumed = True

    def calibrate(self, path: PixelPath | None = None) -> Calibration:
        """Decide now how frames become clips, unless that was decided; the first batch does the same.

        nvJPEG and the CPU differ by a level here and there, and so do kernels and DALI's operators: loaders that are to
        deliver the same pixels must go the same way.

        Args:
            path: what another loader, another process or an earlier part of the run decided; where there is none, or
                it is "auto": as the settings ask. On a CPU there is one way alone.

        Raises:
            InputError: kernels are asked for, and are wrong here or do not run.
        """
        if self.calibration is None:
            decode, wanted = (path or PixelPath()).over(self.settings.path)
            if self._device.type == "cpu" and decode == "mixed":
                decode = "cpu"
            colours, operators, why = choose_operators(self._device, wanted, changed=self.recipe.colours)
            chosen = operators, why
            decoder, self.calibration = choose_decoder(self._graph(colours), decode, self._first_batch, chosen)
            self._decoders.append(decoder)
        return self.calibration

    def begin(self) -> None:
        """Read and decode the first batches now, in the loader's threads, while the caller does something else."""
        if self.steps_left:
            self._begin(self._state)

    def close(self) -> None:
        """End all threads and close the shards."""
        self._finalizer()

    def __enter__(self) -> Self:
        """The loader itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the loader."""
        self.close()

    @property
    def _step_samples(self) -> int:
        """Samples a step takes on all processes."""
        return self.settings.batch_size * self._world.size

    def _place(self, epoch: int, consumed: int) -> LoaderState:
        return self._state.at(epoch, min(consumed, len(self._samples)))

    def _left(self, state: LoaderState) -> int:
        steps = order.shuffled_steps if self._training else order.sequential_steps
        return steps(len(self._samples), self.settings.batch_size, self._world, state.consumed)

    def _deliver(self, begin: LoaderState, *, goes_on: bool) -> Iterator[ClipBatch]:
        steps = self._left(begin)
        self._state = begin
        try:
            stages = self._begin(begin) if steps else None
            self._quarantine.begin(begin.epoch, goes_on=begin.consumed > 0)
            for step in range(steps):
                self._check_process()
                began = time.perf_counter()
                prepared, clips = stages.next()  # type: ignore[union-attr]
                self.statistics.add(wait_s=time.perf_counter() - began)
                self._quarantine.add(len(prepared.drawn), prepared.damage, prepared.damaged_reads)
                self._state = self._place(begin.epoch, begin.consumed + (step + 1) * self._step_samples)
                if step == steps - 1 and goes_on:
                    self._end(begin)
                    self._begin(self._place(begin.epoch + 1, 0))
                if clips:  # else every sample of an evaluation batch was damaged
                    delivered = prepared.valid * self.recipe.views
                    self.statistics.add(clips=delivered, frames=delivered * self.recipe.clip_frames)
                    yield delivered_batch(prepared, clips, self._index.sample_label[self._samples[prepared.positions]])
        finally:
            self._end(begin)
        if self._state.epoch == begin.epoch:  # unless the consumer went elsewhere with the last batch
            self._state = self._place(begin.epoch + (1 if self._training else 0), 0)

    def _begin(self, place: LoaderState) -> Stages:
        """The stages that deliver from a place on: begun already, or new; all others end."""
        self._check_process()
        if not self._finalizer.alive:
            raise RuntimeError("the loader is closed")
        for other in [other for other in self._running if other != place]:
            self._end(other)
        if place not in self._running:
            self.calibrate()
            decoder = self._decoders[0]
            settings = self.settings
            residual = settings.modality == "residual"
            todo = Pass(place.epoch, self._positions(place), settings.prefetch, settings.wait_limit_s, residual)
            self._running[place] = Stages(self._preparer, decoder, todo, self._readers, self.statistics)
        return self._running[place]

    def _check_process(self) -> None:
        """A fork inherits neither the threads nor DALI's: it would wait for them, however long it is let."""
        if os.getpid() != self._process:
            raise RuntimeError(
                f"the loader was opened by process {self._process}, and this one was forked from it: open a loader in "
                "the process that uses it"
            )

    def _end(self, place: LoaderState) -> None:
        stages = self._running.pop(place, None)
        if stages is not None and os.getpid() == self._process:
            stages.stop()

    def _positions(self, place: LoaderState) -> Callable[[], Positions]:
        size, n = self.settings.batch_size, len(self._samples)
        if self._training:
            return partial(_shuffled, place.seed, place.epoch, n, size, self._world, place.consumed)
        return partial(order.sequential_positions, n, size, self._world, place.consumed)

    def _graph(self, colours: Colours) -> FrameGraph:
        return FrameGraph(
            frames=self.settings.batch_size * self.recipe.views * self.recipe.clip_frames,
            crop=(self.settings.crop, self.settings.crop),
            colours=colours,
            decode="cpu",
            device=self._device,
            threads=self._threads,
            moments=self.moments,
        )

    def _first_batch(self) -> PreparedBatch | None:
        batch = self._preparer.read(self._positions(self._place(0, 0))()[0], 0)
        return batch if batch.valid else None


def _shuffled(seed: int, epoch: int, n: int, batch_size: int, world: World, consumed: int) -> Positions:
    return list(order.shuffled_positions(seed, epoch, n, batch_size, world, consumed))


def _close(
    process: int,
    running: dict[LoaderState, Stages],
    decoders: list[FrameDecoder],
    preparer: BatchPreparer,
    readers: DaemonPool,
) -> None:
    if os.getpid() != process:  # a fork: what is open belongs to the process that opened it, locks may be held for ever
        return
    preparer.close()  # first: reads that are being tried again give up
    ended = [stages.stop() for stages in list(running.values())]
    running.clear()
    readers.close(_CLOSE_LIMIT_S)
    preparer.close()  # again: a read that had begun may have opened a shard anew
    if all(ended):  # never take a decoder away from under a thread that hangs in it
        for decoder in decoders:
            decoder.close()
    decoders.clear()
