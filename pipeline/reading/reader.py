"""JPEG frames out of the shards: range reads, each frame checked against its CRC-32.

All frames of a batch are planned at once, in arrays: the wanted frames are sorted, neighbours become one range read,
and only slicing and checksums go frame by frame.

    frames of a video     0 1 2 3 4 5 6 7 8 9 ...
    wanted                    x x x   x     x        (2, 3, 4, 6, 9)
    ranges                    [-------]     [        the gap at 5 is small enough to be read along
"""

import time
import zlib
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from pclkd.pipeline.reading.jpeg_headers import JpegHeaders
from pclkd.pipeline.reading.shard_bytes import ByteRange, LocalShards, ShardBytes, UnreadableBytesError
from pclkd.sharding.shards.index import ShardIndex

__all__ = ["DamagedSampleError", "FrameReader", "FramesRead", "ReadTimes"]

Jpegs = list[NDArray[np.uint8]]
_MOST_A_PIXEL = 12  # bytes: three colours of at most 27 bits each
_MOST_BESIDE = 1 << 20  # of headers
_NOTHING = np.zeros(0, np.uint8)


class DamagedSampleError(Exception):
    """The stored bytes of a sample cannot be read or fail their checksum."""


@dataclass
class ReadTimes:
    """Where reading spent its time, in seconds, and how much it read, in range reads, bytes and frames."""

    read_s: float = 0.0
    checksum_s: float = 0.0
    reads: int = 0
    bytes_read: int = 0
    frames: int = 0


@dataclass(frozen=True)
class FramesRead:
    """The frames of B samples, N each.

    Attributes:
        jpegs: B * N encoded frames, sample after sample; those of a damaged sample must not be used.
        damage: what is wrong, by row of the batch; rows that are not named are intact.
    """

    jpegs: Jpegs
    damage: dict[int, DamagedSampleError] = field(default_factory=dict)


class FrameReader:
    """Reads single frames of single videos; safe to use from several threads.

    Args:
        index: the shard set.
        source: where its bytes come from; by default the index's own folder.
    """

    def __init__(self, index: ShardIndex, source: ShardBytes | None = None) -> None:
        self.index = index
        self._source = source if source is not None else LocalShards(index)
        self._headers = JpegHeaders()
        self._lengths = np.array([shard.bytes for shard in index.manifest.shards], dtype=np.int64)

    def read(self, sample: int, frames: NDArray[np.int64], times: ReadTimes | None = None) -> Jpegs:
        """Read frames of one sample.

        Args:
            sample: sample id.
            frames: [N] frame numbers within the video, in any order, repeats allowed.
            times: added to, where given.

        Returns:
            One uint8 array of JPEG bytes for each of `frames`, in their order.

        Raises:
            DamagedSampleError: a shard cannot be read, is too short, or a frame fails its checksum.
            InputError: the object store fails.
        """
        found = self.read_batch(np.array([sample]), np.asarray(frames).reshape(1, -1), times)
        if found.damage:
            raise found.damage[0]
        return found.jpegs

    def read_batch(
        self, samples: NDArray[np.int64], frames: NDArray[np.int64], times: ReadTimes | None = None
    ) -> FramesRead:
        """Read frames of several samples; each frame is read and checked once, however often it is wanted.

        Args:
            samples: [B] sample ids.
            frames: [B, N] frame numbers within each video.
            times: added to, where given.

        Raises:
            InputError: the object store fails.
        """
        times = times if times is not None else ReadTimes()
        wanted, inverse = np.unique(self.index.sample_frames[samples][:, None] + frames, return_inverse=True)
        pieces, heads, unreadable = self._pieces(wanted, times)
        wrong = self._wrong(wanted, pieces, times)
        if wrong.size and self._source.forget(self._plan(wanted[wrong])[0]):
            # A kept copy may have gone bad while the shard is fine: once more, from the shard.
            again, their_heads, why = self._pieces(wanted[wrong], times)
            for place, number in enumerate(wrong.tolist()):
                pieces[number], heads[number] = again[place], their_heads[place]
                unreadable.pop(number, None)
                if place in why:
                    unreadable[number] = why[place]
            wrong = wrong[self._wrong(wanted[wrong], again, times)]
        unreadable |= self._no_frames(wanted, heads, pieces, wrong, times)
        times.frames += inverse.size
        jpegs = [pieces[number] for number in inverse.ravel().tolist()]
        bad = np.union1d(wrong, list(unreadable)).astype(np.int64)
        if not bad.size:
            return FramesRead(jpegs)
        return FramesRead(jpegs, self._damage(samples, frames, inverse.reshape(frames.shape), bad, unreadable))

    def busy(self) -> str:
        """What is being read now, for messages: " from ..." or nothing."""
        return self._source.busy()

    def close(self) -> None:
        """Close all shards."""
        self._source.close()

    def _plan(
        self, rows: NDArray[np.int64]
    ) -> tuple[list[ByteRange], list[bool], NDArray[np.int64], NDArray[np.int64]]:
        """The range reads for ascending frame rows, which of them can be, and where each frame lies: (range, offset).

        A frame that cannot be stands alone, so that it takes none of its neighbours along.
        """
        offset = self.index.frame_offset[rows]
        length = self.index.frame_length[rows].astype(np.int64)
        sample = np.searchsorted(self.index.sample_frames, rows, side="right") - 1
        shard = self.index.sample_shard[sample]
        pixels = self.index.sample_height[sample].astype(np.int64) * self.index.sample_width[sample]
        # A damaged index may tell anything, and memory is set aside for what is read.
        sound = (length > 0) & (length <= _MOST_A_PIXEL * pixels + _MOST_BESIDE)
        sound &= (offset >= 0) & (offset <= self._lengths[shard] - length)
        gap = offset[1:] - (offset[:-1] + length[:-1])
        alone = ~(sound[1:] & sound[:-1])
        breaks = np.flatnonzero((gap < 0) | (gap > self._source.gap) | (shard[1:] != shard[:-1]) | alone) + 1
        first = np.concatenate([[0], breaks])
        last = np.concatenate([breaks, [len(rows)]]) - 1
        start, end = offset[first], offset[last] + length[last]
        ranges = list(map(ByteRange, shard[first].tolist(), start.tolist(), (end - start).tolist()))
        owner = np.repeat(np.arange(len(first)), last - first + 1)
        return ranges, sound[first].tolist(), owner, offset - start[owner]

    def _pieces(self, rows: NDArray[np.int64], times: ReadTimes) -> tuple[Jpegs, list[bytes], dict[int, str]]:
        """The bytes of ascending frame rows and how they begin; where there are none, the reason by place."""
        ranges, sound, owner, offset = self._plan(rows)
        began = time.perf_counter()
        bounds = np.searchsorted(owner, np.arange(len(ranges) + 1))
        read = iter(self._source.read([wanted for wanted, fine in zip(ranges, sound, strict=True) if fine]))
        found = [next(read) if fine else _no_such_range() for fine in sound]
        times.read_s += time.perf_counter() - began
        times.reads += len(ranges)
        pieces: Jpegs = []
        heads: list[bytes] = []
        head = self._headers.length
        unreadable: dict[int, str] = {}
        ends = (offset + self.index.frame_length[rows]).tolist()
        for number, (begin, end) in enumerate(pairwise(bounds.tolist())):
            run = found[number]
            if isinstance(run, UnreadableBytesError):
                unreadable |= dict.fromkeys(range(begin, end), f": {run}")
                pieces += [_NOTHING] * (end - begin)
                heads += [b""] * (end - begin)
                continue
            times.bytes_read += len(run)
            data = np.frombuffer(run, np.uint8)
            starts = offset[begin:end].tolist()
            pieces += [data[a:b] for a, b in zip(starts, ends[begin:end], strict=True)]
            heads += [run[a : a + head] for a in starts]
        return pieces, heads, unreadable

    def _wrong(self, rows: NDArray[np.int64], pieces: Jpegs, times: ReadTimes) -> NDArray[np.int64]:
        """Places of the frames that fail their checksum."""
        began = time.perf_counter()
        crc32 = zlib.crc32
        found = np.array([crc32(piece.data) for piece in pieces], dtype=np.uint32)
        # No frame is empty: an empty piece stands for one that could not be read, even where its checksum is 0.
        empty = np.array([piece is _NOTHING for piece in pieces], dtype=bool)
        wrong = np.flatnonzero((found != self.index.frame_crc32[rows]) | empty)
        times.checksum_s += time.perf_counter() - began
        return wrong

    def _no_frames(
        self,
        rows: NDArray[np.int64],
        heads: list[bytes],
        pieces: Jpegs,
        wrong: NDArray[np.int64],
        times: ReadTimes,
    ) -> dict[int, str]:
        """Frames whose checksum is right and that are no baseline JPEG of the video's size all the same, by place."""
        began = time.perf_counter()
        owner = np.searchsorted(self.index.sample_frames, rows, side="right") - 1
        expected = self.index.sample_height[owner].astype(np.int64) << 16 | self.index.sample_width[owner]
        odd = np.flatnonzero(self._headers.sizes(heads, pieces) != expected)
        times.checksum_s += time.perf_counter() - began
        return dict.fromkeys(np.setdiff1d(odd, wrong).tolist(), " is no baseline JPEG of the size that the index tells")

    def _damage(
        self,
        samples: NDArray[np.int64],
        frames: NDArray[np.int64],
        places: NDArray[np.int64],
        wrong: NDArray[np.int64],
        unreadable: dict[int, str],
    ) -> dict[int, DamagedSampleError]:
        """What is wrong with each row of the batch that has a wrong frame; its first one is told."""
        bad = np.isin(places, wrong)
        damage = {}
        for row in np.flatnonzero(bad.any(axis=1)).tolist():
            column = int(np.argmax(bad[row]))
            place, frame = int(places[row, column]), int(frames[row, column])
            reason = unreadable.get(place, " fails its checksum")
            damage[row] = DamagedSampleError(f"{self.index.key(int(samples[row]))}: frame {frame}{reason}")
        return damage


def _no_such_range() -> UnreadableBytesError:
    return UnreadableBytesError("the index tells a place that no shard has")
