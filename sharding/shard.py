"""The unit of work: decode the videos of one shard, write its tar and its wds2idx index."""

import hashlib
import json
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from pclkd.sharding.atomic import atomic_write, write_text
from pclkd.sharding.frames import UnreadableVideoError, open_video
from pclkd.sharding.manifest import PackSettings, Quarantined, ShardRecord
from pclkd.sharding.plan import shard_name
from pclkd.sharding.tar import TarWriter, webdataset_index
from pclkd.sharding.videos import Video

__all__ = ["PackedVideo", "ShardResult", "ShardTask", "pack_shard"]


@dataclass(frozen=True)
class ShardTask:
    """All that a worker needs to know to make one shard."""

    number: int
    videos: tuple[Video, ...]
    classes: tuple[str, ...]
    out: Path
    settings: PackSettings

    @property
    def name(self) -> str:
        """File name of the tar."""
        return shard_name(self.number)


@dataclass
class PackedVideo:
    """Where one video lies in its tar, and how large its frames are stored (pixels).

    `offset` is the byte position of its frames, `size` and `crc32` are of its whole stretch of the tar, headers
    included; `lengths` and `frame_crc32` have an entry for each frame.
    """

    video: Video
    offset: int
    lengths: list[int]
    frame_crc32: list[int]
    size: int
    crc32: int
    height: int
    width: int


@dataclass
class ShardResult:
    """What became of a task; `record` is None when no video of it could be read, and then there is no tar."""

    record: ShardRecord | None
    packed: list[PackedVideo] = field(default_factory=list)
    quarantined: list[Quarantined] = field(default_factory=list)


class _Tally:
    """A file that keeps checksums of what goes through it: SHA-256 of all, CRC-32 since the last `restart`."""

    def __init__(self, file: BinaryIO) -> None:
        self.file = file
        self.sha256 = hashlib.sha256()
        self.crc32 = 0

    def write(self, data: bytes) -> int:
        self.sha256.update(data)
        self.crc32 = zlib.crc32(data, self.crc32)
        return self.file.write(data)

    def restart(self) -> None:
        self.crc32 = 0


def pack_shard(task: ShardTask, done: Callable[[str], None]) -> ShardResult:
    """Make one shard; call `done` with the name of each video when it is through.

    The tar and its `.idx` appear under their final names only when they are whole. Doing a task again gives the same
    bytes.
    """
    result = ShardResult(None)
    path = task.out / task.name
    with atomic_write(path) as file:
        tally = _Tally(file)
        tar = TarWriter(tally)
        for video in task.videos:
            try:
                frames, about = _read_video(video, task)
            except UnreadableVideoError as error:
                result.quarantined.append(Quarantined(video.relative, str(error)))
            else:
                tally.restart()
                start = tar.position
                entry = tar.add(f"{video.key}.mjpeg", b"".join(frames))
                tar.add(f"{video.key}.json", about)
                crcs = [zlib.crc32(frame) for frame in frames]
                lengths = [len(frame) for frame in frames]
                size = tar.position - start
                result.packed.append(
                    PackedVideo(
                        video, entry.offset, lengths, crcs, size, tally.crc32, task.settings.height, task.settings.width
                    )
                )
            done(video.relative)
        total = tar.finish()
    if not result.packed:
        path.unlink()
        return result
    write_text(path.with_suffix(".idx"), webdataset_index(tar.entries))
    result.record = ShardRecord(task.name, total, len(result.packed), tally.sha256.hexdigest())
    return result


def _read_video(video: Video, task: ShardTask) -> tuple[list[bytes], bytes]:
    """Return the JPEG frames of a video and the JSON that goes beside them."""
    settings = task.settings
    with open_video(Path(video.path), settings) as opened:
        frames = list(opened.frames)
    with Path(video.path).open("rb") as file:
        source_sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    about = {
        "key": video.key,
        "class": task.classes[video.label],
        "label": video.label,
        "group": video.group,
        "frames": len(frames),
        "fps": opened.fps,
        "height": opened.height,
        "width": opened.width,
        "source": video.relative,
        "source_sha256": source_sha256,
    }
    return frames, json.dumps(about).encode()
