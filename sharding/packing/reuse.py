"""Which shards of a finished set can stay when the set is packed again, perhaps with other videos."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pclkd.sharding.common import storage
from pclkd.sharding.common.files import sha256_of
from pclkd.sharding.datasets.dataset import Video
from pclkd.sharding.packing.journal import read_record, stored_version
from pclkd.sharding.packing.shard import write_index
from pclkd.sharding.packing.task import PackedVideo, ShardResult, ShardTask
from pclkd.sharding.shards.columns import Column
from pclkd.sharding.shards.index import ShardIndex
from pclkd.sharding.shards.manifest import Quarantined, ShardRecord

__all__ = ["CheckTask", "FinishedShard", "check_finished", "finished_shards", "keep_shard", "source_is", "tar_is"]


def keep_shard(task: ShardTask) -> ShardResult | None:
    """Return the finished shard if its record fits the task, its sources have not changed, and its tar is sound.

    A source counts as unchanged with the same size and time of change (behind URLs: version); where those differ, its
    contents decide. The tar is read and compared with its SHA-256; behind a URL the version that the store gave it at
    its upload, the ETag, is enough.
    """
    recorded = read_record(task)
    if recorded is None:
        return None
    result = recorded.result
    sums = {video.video.key: video.source_sha256 for video in result.packed}
    for video, before, now in zip(task.videos, recorded.identities, task.identities, strict=True):
        same = before == now and (now != "" or video.key not in sums)
        if not same and not (video.key in sums and source_is(video.path, now, sums[video.key])):
            return None
    if result.record is None:
        return result
    if not (recorded.stored and recorded.stored == stored_version(task)) and not tar_is(task, result.record):
        return None
    write_index(task, result.packed)
    return result


def source_is(path: str, identity: str, sha256: str) -> bool:
    """Tell whether a source has these contents; `identity` is empty when it cannot be read."""
    if not identity:
        return False
    try:
        with storage.local_copy(path) as copy:
            return sha256_of(copy) == sha256
    except OSError:
        return False


def tar_is(task: ShardTask, record: ShardRecord) -> bool:
    """Tell whether the tar of a task is there and has the length and SHA-256 of `record`."""
    try:
        with storage.local_copy(storage.join(task.out, task.name)) as copy:
            return copy.stat().st_size == record.bytes and sha256_of(copy) == record.sha256
    except OSError:
        return False


@dataclass(frozen=True)
class FinishedShard:
    """What manifest and index tell of one shard: its record, and a row of `samples` for each video in it."""

    record: ShardRecord
    samples: dict[str, Column]
    lengths: tuple[Column, ...]
    frame_crc32: tuple[Column, ...]


@dataclass(frozen=True)
class CheckTask:
    """A shard of a finished set to compare with what it would become now.

    Attributes:
        task: what it would be made from.
        finished: what it is; None when there is no such shard.
        quarantined: videos of the task that the manifest names as left out.
    """

    task: ShardTask
    finished: FinishedShard | None
    quarantined: tuple[Quarantined, ...]

    @property
    def name(self) -> str:
        """File name of the tar."""
        return self.task.name

    @property
    def fits(self) -> bool:
        """Whether the shard holds videos of the names that the task has, as far as can be told without reading it."""
        names = [video.key.encode() for video in self.wanted]
        return names == (self.finished.samples["key"].tolist() if self.finished else [])

    @property
    def wanted(self) -> list[Video]:
        """The videos that are to be in the shard."""
        left_out = {video.video for video in self.quarantined}
        return [video for video in self.task.videos if video.relative not in left_out]

    @property
    def videos(self) -> tuple[Video, ...]:
        """Its videos."""
        return self.task.videos

    @property
    def identities(self) -> tuple[str, ...]:
        """What tells its sources from later versions."""
        return self.task.identities


def finished_shards(index: ShardIndex) -> dict[str, FinishedShard]:
    """Take the index of a finished set apart, by the file name of the shards."""
    bounds = np.searchsorted(index.sample_shard, np.arange(len(index.manifest.shards) + 1))
    found = {}
    for number, record in enumerate(index.manifest.shards):
        rows = range(int(bounds[number]), int(bounds[number + 1]))
        frames = [slice(int(index.sample_frames[row]), int(index.sample_frames[row + 1])) for row in rows]
        names = ("key", "label", "group", "offset", "size", "crc32", "height", "width")
        found[record.name] = FinishedShard(
            record,
            {name: np.array(getattr(index, f"sample_{name}")[rows.start : rows.stop]) for name in names},
            tuple(np.array(index.frame_length[part]) for part in frames),
            tuple(np.array(index.frame_crc32[part]) for part in frames),
        )
    return found


def check_finished(check: CheckTask) -> ShardResult | None:
    """Return the finished shard if the task would make the same again: same videos, same contents, sound tar.

    The contents of every source are compared, and every byte of the tar.
    """
    task, finished = check.task, check.finished
    if not check.fits:
        return None
    if finished is None:
        return ShardResult(None, [], list(check.quarantined), kept=True)
    try:
        with storage.local_copy(storage.join(task.out, task.name)) as tar:
            if sha256_of(tar) != finished.record.sha256:
                return None
            packed = [_packed(task, video, finished, row, tar) for row, video in enumerate(check.wanted)]
    except (OSError, ValueError, KeyError):
        return None
    identities = {video.key: identity for video, identity in zip(task.videos, task.identities, strict=True)}
    for video in packed:
        if video is None or not source_is(video.video.path, identities[video.video.key], video.source_sha256):
            return None
    kept = [video for video in packed if video is not None]
    write_index(task, kept)
    return ShardResult(finished.record, kept, list(check.quarantined), kept=True)


def _packed(task: ShardTask, video: Video, finished: FinishedShard, row: int, tar: Path) -> PackedVideo | None:
    """Put together what is known of a video in a sound tar; None when it is not what the task would make."""
    samples = {name: column[row] for name, column in finished.samples.items()}
    offset, size = int(samples["offset"]), int(samples["size"])
    lengths = finished.lengths[row]
    packed = PackedVideo(
        video,
        offset,
        lengths,
        finished.frame_crc32[row],
        size,
        int(samples["height"]),
        int(samples["width"]),
        0,
        "",
        int(samples["crc32"]),
    )
    about_offset = packed.entries[1].offset
    with tar.open("rb") as file:
        file.seek(about_offset)
        text = file.read(packed.start + size - about_offset).rstrip(b"\0")
    about = json.loads(text)
    expected = {
        "key": video.key,
        "class": task.classes[video.label],
        "label": video.label,
        "group": video.group,
        "source": video.relative,
    }
    if any(about[name] != value for name, value in expected.items()):
        return None
    packed.about_size = len(text)
    packed.source_sha256 = about["source_sha256"]
    return packed
