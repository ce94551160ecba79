"""JPEG frames out of the shards: range reads, each frame checked against its CRC-32."""

import os
import threading
import time
import zlib
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pclkd.sharding.index import ShardIndex

__all__ = ["DamagedSampleError", "FrameReader", "ReadTimes"]

_OPEN_SHARDS = 128  # stays far below the usual limit of 1024 open files


class DamagedSampleError(Exception):
    """The stored bytes of a sample cannot be read or fail their checksum."""


@dataclass
class ReadTimes:
    """Where reading spent its time, in seconds, and how much it read, in bytes."""

    read_s: float = 0.0
    checksum_s: float = 0.0
    bytes_read: int = 0


class _OpenShard:
    """An open file that closes with its last user, so that evicting it never pulls it from under a reader."""

    def __init__(self, path: Path) -> None:
        self.descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)

    def __del__(self) -> None:
        if hasattr(self, "descriptor"):
            os.close(self.descriptor)


class FrameReader:
    """Reads single frames of single videos; safe to use from several threads."""

    def __init__(self, index: ShardIndex) -> None:
        self.index = index
        self._open: OrderedDict[int, _OpenShard] = OrderedDict()
        self._lock = threading.Lock()

    def read(self, sample: int, frames: NDArray[np.int64], times: ReadTimes | None = None) -> list[NDArray[np.uint8]]:
        """Read frames of one sample; neighbouring frames come with one range read.

        Args:
            sample: sample id.
            frames: frame numbers within the video, in any order, repeats allowed.
            times: added to, where given.

        Returns:
            One uint8 array of JPEG bytes for each of `frames`, in their order.

        Raises:
            DamagedSampleError: a shard cannot be read, is too short, or a frame fails its checksum.
        """
        times = times if times is not None else ReadTimes()
        index = self.index
        first = int(index.sample_frames[sample])
        wanted, inverse = np.unique(frames, return_inverse=True)
        rows = first + wanted
        offsets, lengths, checksums = index.frame_offset[rows], index.frame_length[rows], index.frame_crc32[rows]
        # A run ends where the next wanted frame does not start where this one ends.
        breaks = np.flatnonzero(offsets[1:] != offsets[:-1] + lengths[:-1]) + 1
        buffers: list[NDArray[np.uint8]] = []
        for low, high in zip([0, *breaks], [*breaks, len(rows)], strict=True):
            start = int(offsets[low])
            size = int(offsets[high - 1] + lengths[high - 1]) - start
            began = time.perf_counter()
            run = self._read_range(sample, start, size)
            times.read_s += time.perf_counter() - began
            times.bytes_read += size
            for row in range(low, high):
                begin = int(offsets[row]) - start
                buffers.append(run[begin : begin + int(lengths[row])])
        began = time.perf_counter()
        for position, buffer in enumerate(buffers):
            if zlib.crc32(buffer.data) != checksums[position]:
                raise DamagedSampleError(f"{index.key(sample)}: frame {wanted[position]} fails its checksum")
        times.checksum_s += time.perf_counter() - began
        return [buffers[i] for i in inverse]

    def close(self) -> None:
        """Close all shards."""
        with self._lock:
            self._open.clear()

    def _read_range(self, sample: int, start: int, size: int) -> NDArray[np.uint8]:
        shard = int(self.index.sample_shard[sample])
        try:
            data = os.pread(self._shard(shard).descriptor, size, start)
        except OSError as error:
            where = Path(self.index.shard_url(shard))
            raise DamagedSampleError(f"{self.index.key(sample)}: cannot read {where}: {error.strerror}") from error
        if len(data) != size:
            where = Path(self.index.shard_url(shard))
            raise DamagedSampleError(f"{self.index.key(sample)}: {where} ends before byte {start + size}")
        return np.frombuffer(data, np.uint8)

    def _shard(self, shard: int) -> _OpenShard:
        with self._lock:
            if shard not in self._open:
                self._open[shard] = _OpenShard(Path(self.index.shard_url(shard)))
                if len(self._open) > _OPEN_SHARDS:
                    self._open.popitem(last=False)
            self._open.move_to_end(shard)
            return self._open[shard]
