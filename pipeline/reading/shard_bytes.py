"""Bytes out of shards on a local disk."""

import errno
import os
import resource
import threading
import time
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

from pclkd.sharding.common.errors import InputError
from pclkd.sharding.common.files import read_at
from pclkd.sharding.shards.index import ShardIndex

__all__ = ["ByteRange", "LocalShards", "ShardBytes", "UnreadableBytesError"]

_OPEN_SHARDS = 128  # stays far below the usual limit of 1024 open files
_SHARE = 4  # of the descriptors that this process may have: the rest is for all else


class UnreadableBytesError(Exception):
    """The bytes of a range are not there: the shard is gone, too short, or the disk fails."""


class ByteRange(NamedTuple):
    """A stretch of a shard: shard number, first byte, length in bytes."""

    shard: int
    start: int
    size: int


class ShardBytes(Protocol):
    """Where the bytes of a shard set come from; safe to use from several threads."""

    gap: int
    """Bytes between two stretches up to which one read is cheaper than two."""

    def read(self, ranges: Sequence[ByteRange]) -> list[bytes | UnreadableBytesError]:
        """The bytes of each range, or why there are none.

        Raises:
            InputError: the store as a whole fails, so that no sample could be read.
        """

    def forget(self, ranges: Sequence[ByteRange]) -> bool:
        """Drop kept copies of these bytes, which turned out wrong; whether there can have been any."""

    def busy(self) -> str:
        """What is being read for the longest time now, for messages: " from ..." or nothing."""

    def close(self) -> None:
        """Close what is open."""


class _OpenShard:
    """An open file that closes with its last user, so that evicting it never pulls it from under a reader."""

    def __init__(self, path: Path) -> None:
        self.descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)

    def __del__(self) -> None:
        if hasattr(self, "descriptor"):
            os.close(self.descriptor)


class LocalShards:
    """Shards in a folder.

    Args:
        index: the shard set.
        open_shards: files kept open at most; fewer where this process may open few.
    """

    gap = 16 * 1024  # copying two frames from the page cache costs what a call does; a disk reads ahead further

    def __init__(self, index: ShardIndex, open_shards: int = _OPEN_SHARDS) -> None:
        allowed, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        self._index = index
        self._limit = open_shards if allowed == resource.RLIM_INFINITY else max(1, min(open_shards, allowed // _SHARE))
        self._open: OrderedDict[int, _OpenShard] = OrderedDict()
        self._lock = threading.Lock()
        self._now: dict[int, tuple[float, int]] = {}  # by thread: since when, which shard

    def read(self, ranges: Sequence[ByteRange]) -> list[bytes | UnreadableBytesError]:
        """See `ShardBytes.read`."""
        return [self._read(*wanted) for wanted in ranges]

    def forget(self, ranges: Sequence[ByteRange]) -> bool:  # noqa: ARG002
        """No copies are kept."""
        return False

    def busy(self) -> str:
        """See `ShardBytes.busy`."""
        now = sorted(self._now.copy().values())
        return f" from {self._index.shard_url(now[0][1])} (for {time.monotonic() - now[0][0]:.0f} s)" if now else ""

    def close(self) -> None:
        """Close all shards."""
        with self._lock:
            self._open.clear()

    def _read(self, shard: int, start: int, size: int) -> bytes | UnreadableBytesError:
        thread = threading.get_ident()
        self._now[thread] = time.monotonic(), shard
        try:
            try:
                data = read_at(self._shard(shard).descriptor, start, size)
            except OSError as error:
                if error.errno != errno.ESTALE:
                    raise
                # A file server has another file under that name by now, or was restarted; this descriptor stays dead.
                with self._lock:
                    self._open.pop(shard, None)
                data = read_at(self._shard(shard).descriptor, start, size)
        except OSError as error:
            return UnreadableBytesError(f"cannot read {self._index.shard_url(shard)}: {error.strerror}")
        finally:
            del self._now[thread]
        if len(data) != size:
            return UnreadableBytesError(f"{self._index.shard_url(shard)} ends before byte {start + size}")
        return data

    def _shard(self, shard: int) -> _OpenShard:
        with self._lock:
            if (known := self._open.get(shard)) is not None:
                self._open.move_to_end(shard)
                return known
        opened = self._opened(Path(self._index.shard_url(shard)))  # not under the lock: a dead disk would stop them all
        with self._lock:
            kept = self._open.setdefault(shard, opened)
            self._open.move_to_end(shard)
            if len(self._open) > self._limit:
                self._open.popitem(last=False)
            return kept

    def _opened(self, path: Path) -> _OpenShard:
        """Open a shard; where this process has no descriptor left, one that is not in use is closed first.

        Raises:
            InputError: none is left all the same; no sample is damaged by that.
        """
        while True:
            try:
                return _OpenShard(path)
            except OSError as error:
                if error.errno not in (errno.EMFILE, errno.ENFILE):
                    raise
                with self._lock:
                    if not self._open:
                        raise InputError(
                            f"{path} cannot be opened: {error.strerror}",
                            remedy="raise the limit on open files (ulimit -n), or close what else is open",
                        ) from None
                    self._open.popitem(last=False)
