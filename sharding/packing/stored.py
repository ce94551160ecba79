"""Videos of a finished set taken over into a new shard: their frames are copied, nothing is decoded."""

import json
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from pclkd.sharding.common import storage
from pclkd.sharding.common.errors import InputError
from pclkd.sharding.common.files import sha256_of
from pclkd.sharding.common.store_errors import RefusedError
from pclkd.sharding.packing.task import PackedVideo, ShardTask
from pclkd.sharding.shards.index import ShardIndex
from pclkd.sharding.shards.samples import notes_at
from pclkd.sharding.shards.tar import BLOCK, TarWriter
from pclkd.sharding.video.clock import uneven_times

__all__ = ["StoredVideo", "source_is", "stored_videos", "take_over"]

_READ_BYTES = 8 << 20


@dataclass(frozen=True)
class StoredVideo:
    """Where a video lies in a finished set.

    Attributes:
        url: of the tar.
        key: name of the sample.
        offset: byte position of its frames.
        size: bytes of its stretch of the tar, from a block before `offset` on.
        lengths: bytes of each frame, int32 [F].
        frame_crc32: of each frame, uint32 [F].
        times: of each frame, as the index has them; None where no frame of the set has any.
    """

    url: str
    key: str
    offset: int
    size: int
    lengths: npt.NDArray[np.int32]
    frame_crc32: npt.NDArray[np.uint32]
    times: npt.NDArray[np.float64] | None

    def notes(self) -> dict[str, Any]:
        """Read what stands beside it: class, fps, source file and so on.

        Raises:
            ValueError: it cannot be read.
        """
        try:
            return notes_at(self.url, self.offset, self.size, self.lengths, self.key)
        except (OSError, InputError) as error:
            raise ValueError(str(error)) from None

    def frames(self) -> Iterator[bytes]:
        """Give its frames, some MiB at a time.

        Raises:
            ValueError: one cannot be read, or does not have its checksum.
        """
        ends = np.cumsum(self.lengths, dtype=np.int64)
        row, begin = 0, 0
        while row < len(ends):
            stop = max(row + 1, int(np.searchsorted(ends, begin + _READ_BYTES, side="right")))
            try:
                data = memoryview(storage.read_range(self.url, self.offset + begin, int(ends[stop - 1]) - begin))
            except (OSError, InputError) as error:
                raise ValueError(str(error)) from None
            place = 0
            for length, expected in zip(self.lengths[row:stop], self.frame_crc32[row:stop], strict=True):
                frame = data[place : place + length]
                if zlib.crc32(frame) != expected:
                    raise ValueError("a frame does not have its checksum")
                yield bytes(frame)
                place += int(length)
            row, begin = stop, int(ends[stop - 1])


def stored_videos(index: ShardIndex, urls: dict[str, str]) -> dict[str, StoredVideo]:
    """Return the videos of a finished set by key; `urls` tells of shards that lie elsewhere now, by file name."""
    found = {}
    places = [urls.get(shard.name, index.shard_url(row)) for row, shard in enumerate(index.manifest.shards)]
    for sample in range(len(index)):
        frames = slice(int(index.sample_frames[sample]), int(index.sample_frames[sample + 1]))
        key = index.key(sample)
        found[key] = StoredVideo(
            places[int(index.sample_shard[sample])],
            key,
            int(index.sample_offset[sample]),
            int(index.sample_size[sample]),
            np.array(index.frame_length[frames]),
            np.array(index.frame_crc32[frames]),
            None if index.frame_time is None else np.array(index.frame_time[frames]),
        )
    return found


def take_over(
    task: ShardTask,
    position: int,
    tar: TarWriter,
    stored: StoredVideo,
    tick: Callable[[], None],
    sums: dict[str, str],
) -> PackedVideo | None:
    """Append a stored video to a tar; None when it must be decoded: its source has changed, or its frames are damaged.

    `sums` has the SHA-256 of the sources that were read already: many spans may share one.
    A video without a source of its own, whose path is the tar that it comes from, is taken as it is.

    Raises:
        InputError: such a video is damaged.
    """
    video = task.videos[position]
    start = tar.position
    try:
        notes = stored.notes()
        if video.path != stored.url and sums.get(video.path) != notes["source_sha256"]:
            if not source_is(video.path, notes["source_sha256"], tick):
                return None
            sums[video.path] = notes["source_sha256"]
        with tar.stream(f"{video.key}.mjpeg") as write:
            for frame in stored.frames():
                write(frame)
                tick()
    except ValueError as error:
        if video.path == stored.url:
            remedy = "run 'shard-ucf101 verify' on its set, and pack the damaged videos again"
            raise InputError(f"video {stored.key} in {stored.url} cannot be read ({error})", remedy=remedy) from error
        tar.rewind(start)
        return None
    told = {
        **notes,
        "key": video.key,
        "class": task.class_of(video),
        "label": video.label,
        "group": video.group,
        "source": video.relative,
    }
    about = json.dumps(told).encode()
    tar.add(f"{video.key}.json", about)
    return PackedVideo(
        video,
        start + BLOCK,
        stored.lengths,
        stored.frame_crc32,
        tar.position - start,
        int(notes["height"]),
        int(notes["width"]),
        len(about),
        notes["source_sha256"],
        fps=float(notes["fps"]),
        times=None if stored.times is None else uneven_times(stored.times, float(notes["fps"])),
        remark=notes.get("remark", ""),
        salvaged="salvaged" in notes,
    )


def source_is(path: str, sha256: str, tick: Callable[[], None] = lambda: None) -> bool:
    """Tell whether a source can be read and has these contents."""
    try:
        with storage.local_copy(path) as copy:
            return sha256_of(copy, tick) == sha256
    except (OSError, RefusedError):
        return False
