"""The reading stage: plan a batch, read its frames, deal with damaged samples."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pclkd.pipeline.randomness import Purpose, integers
from pclkd.pipeline.reader import DamagedSampleError, FrameReader, ReadTimes
from pclkd.pipeline.recipe import ClipPlan, Recipe
from pclkd.pipeline.statistics import LoaderStatistics
from pclkd.sharding.errors import InputError
from pclkd.sharding.index import ShardIndex

__all__ = ["BatchPreparer", "PreparedBatch"]

_REPLACEMENTS = 16  # draws before we believe that the whole set is damaged


@dataclass(frozen=True)
class PreparedBatch:
    """A batch that is ready to decode.

    Attributes:
        positions: [B] positions within the split; replaced samples have their replacement's.
        plan: the decisions, arrays of B rows.
        jpegs: B * V * T encoded frames.
        epoch: the epoch.
        valid: real samples; rows from there on repeat the last real one.
    """

    positions: NDArray[np.int64]
    plan: ClipPlan
    jpegs: list[NDArray[np.uint8]]
    epoch: int
    valid: int


class BatchPreparer:
    """Plans and reads batches; safe to use from several threads.

    Args:
        index: the shard set.
        samples: [n] sample ids of the split.
        recipe: what to do with a sample.
        crop: height and width of a clip, in pixels.
        seed: keys the choice of replacements.
        batch_size: B.
        replace: whether a damaged sample is replaced (training) or left out (evaluation).
    """

    def __init__(
        self,
        index: ShardIndex,
        samples: NDArray[np.int64],
        recipe: Recipe,
        crop: int,
        seed: int,
        batch_size: int,
        *,
        replace: bool,
    ) -> None:
        self._index, self._samples, self._recipe, self._crop = index, samples, recipe, crop
        self._seed, self._batch_size, self._replace = seed, batch_size, replace
        self._reader = FrameReader(index)

    def read(
        self, positions: NDArray[np.int64], epoch: int, statistics: LoaderStatistics | None = None
    ) -> PreparedBatch | None:
        """Plan and read the samples at `positions`; None where all of them are damaged and none is replaced."""
        statistics = statistics or LoaderStatistics()
        times = ReadTimes()
        kept: list[int] = []
        frames: list[list[NDArray[np.uint8]]] = []
        plan = self._plan(positions, epoch)
        for row, position in enumerate(positions.tolist()):
            found = self._intact(position, plan.frames[row], epoch, times, statistics)
            if found is not None:
                kept.append(found[0])
                frames.append(found[1])
        statistics.add(read_s=times.read_s, checksum_s=times.checksum_s, bytes_read=times.bytes_read)
        if not kept:
            return None
        # The decoder's batch has one size: a short batch repeats its last sample, and `valid` tells.
        padding = self._batch_size - len(kept)
        rows = np.array(kept + kept[-1:] * padding, dtype=np.int64)
        jpegs = [jpeg for sample in frames + frames[-1:] * padding for jpeg in sample]
        if not np.array_equal(rows, positions):
            plan = self._plan(rows, epoch)
        return PreparedBatch(positions=rows, plan=plan, jpegs=jpegs, epoch=epoch, valid=len(kept))

    def close(self) -> None:
        """Close the shards."""
        self._reader.close()

    def _plan(self, positions: NDArray[np.int64], epoch: int) -> ClipPlan:
        samples = self._samples[positions]
        counts = self._index.sample_frames[samples + 1] - self._index.sample_frames[samples]
        return self._recipe.plan(epoch, samples, counts, self._index.sample_sizes(samples), self._crop)

    def _intact(
        self,
        position: int,
        frames: NDArray[np.int64],
        epoch: int,
        times: ReadTimes,
        statistics: LoaderStatistics,
    ) -> tuple[int, list[NDArray[np.uint8]]] | None:
        """The sample at `position`, or the first intact one of its replacements, with its frames."""
        try:
            return position, self._reader.read(int(self._samples[position]), frames.reshape(-1), times)
        except DamagedSampleError as damage:
            statistics.add(quarantined=1)
            first = damage
        if not self._replace:
            return None
        sample = self._samples[position]
        draws = integers(self._seed, epoch, [sample], Purpose.REPLACEMENT, _REPLACEMENTS, len(self._samples))
        for candidate in draws[0].tolist():
            plan = self._plan(np.array([candidate]), epoch)
            try:
                return candidate, self._reader.read(int(self._samples[candidate]), plan.frames.reshape(-1), times)
            except DamagedSampleError:
                statistics.add(quarantined=1)
        raise InputError(
            f"{first}; {_REPLACEMENTS} replacements in a row are damaged too",
            remedy=f"run: shard-ucf101 verify {self._index.root}, and pack the data set again",
        )
