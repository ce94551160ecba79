"""The unit of work, one shard: what a worker must know to make it, and what comes of it."""

import hashlib
import json
import tempfile
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from pclkd.sharding.common import storage
from pclkd.sharding.datasets.dataset import NO_LABEL, Video
from pclkd.sharding.packing.deal import shard_name
from pclkd.sharding.shards.manifest import FORMAT_VERSION, Quarantined, ShardRecord
from pclkd.sharding.shards.tar import BLOCK, TarEntry
from pclkd.sharding.video.frames import EncodedVideo, open_video
from pclkd.sharding.video.settings import PackSettings, settings_as_json

__all__ = ["WORK_FOLDER", "Opener", "PackedVideo", "ShardResult", "ShardTask"]

WORK_FOLDER = ".pack"  # in the output while it is unfinished
_RULES = 2  # of what is decoded and when it is on screen: shards that were made by others are not gone on with

Opener = Callable[..., AbstractContextManager[EncodedVideo]]  # called as `open_video`


@dataclass(frozen=True)
class ShardTask:
    """All that a worker needs to make one shard; doing it again gives the same bytes.

    Attributes:
        number: of the shard.
        videos: in their order.
        identities: what tells each source file as it is now from a later version, see `identity`.
        classes: class names; the position is the label.
        out: folder or URL of the shard set.
        settings: how frames are stored.
        run: a name that no other run has, for unfinished files.
        opener: opens a video; `open_video` but for tests.
    """

    number: int
    videos: tuple[Video, ...]
    identities: tuple[str, ...]
    classes: tuple[str, ...]
    out: str
    settings: PackSettings
    run: str
    opener: Opener = open_video

    @property
    def name(self) -> str:
        """File name of the tar."""
        return shard_name(self.number)

    @property
    def key(self) -> str:
        """SHA-256 over all that the bytes depend on, but for the contents of the videos."""
        settings = {
            name: value for name, value in settings_as_json(self.settings).items() if name != "videos_per_shard"
        }
        about = [
            [v.relative, v.key, v.label, self.class_of(v), v.group, *(asdict(v.span).values() if v.span else ())]
            for v in self.videos
        ]
        text = json.dumps([FORMAT_VERSION, _RULES, settings, about], sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()

    def class_of(self, video: Video) -> str | None:
        """Return the name of a video's class; None where it has no label."""
        return None if video.label == NO_LABEL else self.classes[video.label]

    @property
    def scratch(self) -> Path:
        """Folder for the unfinished tar: beside the finished ones, or on this machine when those are behind a URL."""
        if storage.is_remote(self.out):
            return Path(tempfile.gettempdir())
        return storage.local_path(self.out) / WORK_FOLDER

    @property
    def part(self) -> Path:
        """Path of the unfinished tar."""
        return self.scratch / f"{self.name}.{self.run}.part"


@dataclass
class PackedVideo:
    """Where one video lies in its tar.

    Attributes:
        video: which.
        offset: byte position of its frames.
        lengths: bytes of each frame, int32 [F].
        frame_crc32: of each frame, uint32 [F].
        size: bytes of its whole stretch of the tar, headers included.
        height: of its stored frames, pixels.
        width: of its stored frames, pixels.
        about_size: bytes of its JSON.
        source_sha256: of the source file, as hex.
        crc32: of its stretch of the tar; known when the tar is whole.
        fps: frames a second, on average where they are uneven; 0 if unknown.
        times: when each frame is on screen, seconds from the first one, float64 [F]; None where they follow from `fps`.
        remark: what a user should know about how the file was read.
        salvaged: whether it is a part of a damaged video.
    """

    video: Video
    offset: int
    lengths: npt.NDArray[np.int32]
    frame_crc32: npt.NDArray[np.uint32]
    size: int
    height: int
    width: int
    about_size: int
    source_sha256: str
    crc32: int = 0
    fps: float = 0.0
    times: npt.NDArray[np.float64] | None = None
    remark: str = ""
    salvaged: bool = False

    @property
    def start(self) -> int:
        """First byte of its stretch of the tar."""
        return self.offset - BLOCK

    @property
    def entries(self) -> list[TarEntry]:
        """Its members of the tar."""
        frames = int(self.lengths.sum(dtype=np.int64))
        about = self.offset + frames + -frames % BLOCK + BLOCK
        return [
            TarEntry(f"{self.video.key}.mjpeg", self.offset, frames),
            TarEntry(f"{self.video.key}.json", about, self.about_size),
        ]


@dataclass
class ShardResult:
    """What became of a task.

    Attributes:
        record: the tar; None when no video of it could be read, and then there is none.
        packed: its videos, in order.
        quarantined: what was left out.
        kept: whether the tar was there already.
        retried: how many attempts at a video failed and were made again.
        taken_over: how many videos were copied from a finished set.
    """

    record: ShardRecord | None
    packed: list[PackedVideo] = field(default_factory=list)
    quarantined: list[Quarantined] = field(default_factory=list)
    kept: bool = False
    retried: int = 0
    taken_over: int = 0
