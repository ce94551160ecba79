"""The reading stage: plan a batch, read its frames, deal with damaged samples.

A damaged sample is replaced by another one of the data set, drawn from (seed, epoch, id of the damaged sample): the
same one whichever process meets it, and however the epoch is shared out.
"""

from collections.abc import Collection
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from pclkd.pipeline.clips.recipe import ClipPlan, Recipe
from pclkd.pipeline.loader.faults import Damage, remedy
from pclkd.pipeline.randomness import Purpose, integers
from pclkd.pipeline.reading.reader import DamagedSampleError, FrameReader, ReadTimes
from pclkd.pipeline.reading.shard_bytes import ShardBytes
from pclkd.pipeline.statistics import LoaderStatistics
from pclkd.sharding.common.errors import InputError
from pclkd.sharding.shards.index import ShardIndex

__all__ = ["BatchPreparer", "PreparedBatch"]

_REPLACEMENTS = 16  # draws before we believe that the whole set is damaged

Jpegs = list[NDArray[np.uint8]]


@dataclass(frozen=True)
class PreparedBatch:
    """A batch that is ready to decode.

    Attributes:
        drawn: [b] positions within the split that the order told, b <= B.
        positions: [B] positions that are delivered; replaced samples have their replacement's.
        plan: the decisions, arrays of B rows.
        jpegs: B * V * T encoded frames.
        epoch: the epoch.
        valid: real samples; rows from there on repeat the last real one. 0 where nothing of the batch is intact: then
            positions and jpegs are empty.
        damage: drawn samples that are not delivered.
        damaged_reads: attempts that failed.
    """

    drawn: NDArray[np.int64]
    positions: NDArray[np.int64]
    plan: ClipPlan
    jpegs: Jpegs
    epoch: int
    valid: int
    damage: tuple[Damage, ...] = ()
    damaged_reads: int = 0


@dataclass
class _Reading:
    """One reading of one batch: the epoch, samples known to be undecodable, times, attempts that failed."""

    epoch: int
    undecodable: Collection[int]
    times: ReadTimes = field(default_factory=ReadTimes)
    failed: int = 0


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
        source: where the bytes come from; by default the index's own folder.
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
        source: ShardBytes | None = None,
    ) -> None:
        self._index, self._samples, self._recipe, self._crop = index, samples, recipe, crop
        self._seed, self._batch_size, self._replace = seed, batch_size, replace
        self._reader = FrameReader(index, source)

    def read(
        self,
        positions: NDArray[np.int64],
        epoch: int,
        statistics: LoaderStatistics | None = None,
        undecodable: Collection[int] = (),
    ) -> PreparedBatch:
        """Plan and read the samples at `positions`.

        Args:
            positions: [b] positions within the split, b <= B.
            epoch: the epoch.
            statistics: where times are added up.
            undecodable: sample ids whose frames of this epoch no decoder takes: they count as damaged.

        Raises:
            InputError: the object store fails, or so many replacements are damaged that nothing can be intact.
        """
        reading = _Reading(epoch, undecodable)
        try:
            return self._batch(positions, reading)
        finally:
            times = reading.times
            if statistics is not None:
                statistics.add(
                    read_s=times.read_s,
                    checksum_s=times.checksum_s,
                    reads=times.reads,
                    bytes_read=times.bytes_read,
                )

    def samples_at(self, positions: NDArray[np.int64]) -> NDArray[np.int64]:
        """[b] sample ids at [b] positions."""
        return self._samples[positions]

    def busy(self) -> str:
        """What is being read now, for messages: " from ..." or nothing."""
        return self._reader.busy()

    def close(self) -> None:
        """Close the shards."""
        self._reader.close()

    def _batch(self, drawn: NDArray[np.int64], reading: _Reading) -> PreparedBatch:
        plan = self._plan(drawn, reading.epoch)
        jpegs, damage = self._frames(drawn, plan, reading)
        if damage:
            kept, jpegs = self._mended(drawn, jpegs, damage, reading)
        else:
            kept = drawn.tolist()
        told = tuple(Damage(int(self._samples[drawn[row]]), str(why)) for row, why in damage.items())
        if not kept:
            return PreparedBatch(drawn, drawn[:0], plan, [], reading.epoch, 0, told, reading.failed)
        # The decoder's batch has one size: a short batch repeats its last sample, and `valid` tells.
        padding = self._batch_size - len(kept)
        rows = np.array(kept + kept[-1:] * padding, dtype=np.int64)
        jpegs += jpegs[-(len(jpegs) // len(kept)) :] * padding
        if not np.array_equal(rows, drawn):
            plan = self._plan(rows, reading.epoch)
        return PreparedBatch(drawn, rows, plan, jpegs, reading.epoch, len(kept), told, reading.failed)

    def _plan(self, positions: NDArray[np.int64], epoch: int) -> ClipPlan:
        samples = self._samples[positions]
        counts = self._index.sample_frames[samples + 1] - self._index.sample_frames[samples]
        return self._recipe.plan(epoch, samples, counts, self._index.sample_sizes(samples), self._crop)

    def _frames(
        self, positions: NDArray[np.int64], plan: ClipPlan, reading: _Reading
    ) -> tuple[Jpegs, dict[int, DamagedSampleError]]:
        """The frames of all samples, and what is wrong with them by row."""
        samples = self._samples[positions]
        found = self._reader.read_batch(samples, plan.frames.reshape(len(positions), -1), reading.times)
        damage = found.damage
        if reading.undecodable:
            for row, sample in enumerate(samples.tolist()):
                if sample in reading.undecodable:
                    reason = f"{self._index.key(sample)}: a frame cannot be decoded as JPEG"
                    damage.setdefault(row, DamagedSampleError(reason))
        reading.failed += len(damage)
        return found.jpegs, dict(sorted(damage.items()))

    def _mended(
        self, drawn: NDArray[np.int64], jpegs: Jpegs, damage: dict[int, DamagedSampleError], reading: _Reading
    ) -> tuple[list[int], Jpegs]:
        """Positions and frames with each damaged sample replaced, or left out."""
        each = len(jpegs) // len(drawn)
        kept: list[int] = []
        frames: Jpegs = []
        for row, position in enumerate(drawn.tolist()):
            if row not in damage:
                kept.append(position)
                frames += jpegs[row * each : (row + 1) * each]
            elif self._replace:
                replacement, its_frames = self._replacement(position, damage[row], reading)
                kept.append(replacement)
                frames += its_frames
        return kept, frames

    def _replacement(self, position: int, damage: DamagedSampleError, reading: _Reading) -> tuple[int, Jpegs]:
        """The first intact one of the samples that may stand in for the one at `position`."""
        ids = [int(self._samples[position])]
        draws = integers(self._seed, reading.epoch, ids, Purpose.REPLACEMENT, _REPLACEMENTS, len(self._samples))
        for candidate in draws[0].tolist():
            place = np.array([candidate])
            jpegs, wrong = self._frames(place, self._plan(place, reading.epoch), reading)
            if not wrong:
                return candidate, jpegs
        raise InputError(f"{damage}; {_REPLACEMENTS} replacements in a row are damaged too", remedy=remedy(self._index))
