"""Damaged samples: counted one by one, told, and too much when they are many."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass

from pclkd.pipeline.statistics import LoaderStatistics
from pclkd.sharding.common import storage
from pclkd.sharding.common.errors import InputError
from pclkd.sharding.shards.index import ShardIndex

__all__ = ["Damage", "Quarantine", "remedy"]

_ALWAYS_ALLOWED = 8  # damaged samples an epoch and process: a share means nothing while few samples are drawn
_TOLD = 20  # quarantined samples an epoch that the log names one by one
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Damage:
    """A sample that was drawn and could not be delivered: its id, and why."""

    sample: int
    reason: str


def remedy(index: ShardIndex) -> str:
    """What to do about damaged shards."""
    return f"run: shard-ucf101 verify {index.root}, and pack the damaged videos again"


class Quarantine:
    """Counts the samples of an epoch that could not be delivered, and stops the run when there are too many.

    The limit is a share of the samples drawn so far in the epoch by this process; the first 8 are always allowed, so
    that one bad sample does not stop a run that has just begun or a tiny data set.

    Args:
        index: the shard set.
        limit_pct: the share, in percent; 100 never stops.
        statistics: where counts are added up.
    """

    def __init__(self, index: ShardIndex, limit_pct: float, statistics: LoaderStatistics) -> None:
        self._index, self._limit_pct, self._statistics = index, limit_pct, statistics
        self._epoch, self._drawn, self._damaged = -1, 0, 0

    def begin(self, epoch: int, *, goes_on: bool) -> None:
        """Start counting a pass through an epoch, unless it goes on with the one that is being counted."""
        if not goes_on or epoch != self._epoch:
            self._epoch, self._drawn, self._damaged = epoch, 0, 0

    def add(self, drawn: int, damage: Sequence[Damage], reads: int) -> None:
        """Count a batch.

        Args:
            drawn: samples that were drawn for it.
            damage: those that could not be delivered.
            reads: attempts that failed, replacements included.

        Raises:
            InputError: more samples are damaged than the limit allows.
        """
        self._drawn += drawn
        self._statistics.add(samples=drawn, quarantined=len(damage), damaged_reads=reads)
        for one in damage:
            self._damaged += 1
            if self._damaged <= _TOLD:
                _log.warning("epoch %d: quarantined %s", self._epoch, one.reason)
        allowed = max(_ALWAYS_ALLOWED, self._limit_pct / 100 * self._drawn)
        if damage and self._damaged > allowed:
            raise InputError(
                f"{self._damaged} of the {self._drawn} samples drawn in epoch {self._epoch} are damaged, more than the "
                f"{self._limit_pct:g} % allowed; the last: {damage[-1].reason}{_stale(self._index, damage[-1].sample)}",
                remedy=f"{remedy(self._index)}; or --set loader.quarantine_limit_pct",
            )


def _stale(index: ShardIndex, sample: int) -> str:
    """A clause that tells of an index that belongs to other shards; empty where it does not."""
    url = index.shard_url(int(index.sample_shard[sample]))
    try:
        # A tar header stands 512 bytes before the frames and begins with the member's name.
        header = storage.read_range(url, int(index.sample_offset[sample]) - 512, 100)
    except (OSError, InputError):
        return ""
    name = header.split(b"\0")[0]
    if name == f"{index.key(sample)}.mjpeg".encode():
        return ""
    return f"; {url} holds another video there: index and shards are not of one packing"
