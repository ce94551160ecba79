"""Shards that are there, as recorded in an unfinished set or listed by a finished one, and if it holds."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from pclkd.sharding.common import storage
from pclkd.sharding.common.files import sha256_of
from pclkd.sharding.datasets.dataset import Video
from pclkd.sharding.packing.journal import read_record, stored_version
from pclkd.sharding.packing.shard import write_index
from pclkd.sharding.packing.stored import source_is
from pclkd.sharding.packing.task import PackedVideo, ShardResult, ShardTask
from pclkd.sharding.shards.columns import Column
from pclkd.sharding.shards.index import ShardIndex
from pclkd.sharding.shards.manifest import ShardRecord
from pclkd.sharding.video.clock import uneven_times

__all__ = ["ListedShard", "listed_shards", "listed_videos", "recorded_result"]


def recorded_result(task: ShardTask) -> ShardResult | None:
    """Return what is recorded of a shard if that fits the task, its sources have not changed, and its tar is sound.

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
        if not same and not (video.key in sums and _source_is(video.path, now, sums[video.key])):
            return None
    if result.record is None:
        return result
    if not (recorded.stored and recorded.stored == stored_version(task)) and not _tar_is(task, result.record):
        return None
    write_index(task, result.packed)
    return result


def _source_is(path: str, identity: str, sha256: str) -> bool:
    """Tell whether a source has these contents; `identity` is empty when it cannot be read, or has no version."""
    return bool(identity or storage.is_remote(path)) and source_is(path, sha256)


def _tar_is(task: ShardTask, record: ShardRecord) -> bool:
    """Tell whether the tar of a task is there and has the length and SHA-256 of `record`."""
    try:
        with storage.local_copy(storage.join(task.out, task.name)) as copy:
            return copy.stat().st_size == record.bytes and sha256_of(copy) == record.sha256
    except OSError:
        return False


@dataclass(frozen=True)
class ListedShard:
    """What manifest and index tell of one shard: its record, and a row of `samples` for each video in it."""

    record: ShardRecord
    samples: dict[str, Column]
    lengths: tuple[Column, ...]
    frame_crc32: tuple[Column, ...]
    frame_time: tuple[Column, ...] | None


def listed_shards(index: ShardIndex) -> dict[str, ListedShard]:
    """Take the index of a finished set apart, by the file name of the shards."""
    bounds = np.searchsorted(index.sample_shard, np.arange(len(index.manifest.shards) + 1))
    found = {}
    for number, record in enumerate(index.manifest.shards):
        rows = range(int(bounds[number]), int(bounds[number + 1]))
        frames = [slice(int(index.sample_frames[row]), int(index.sample_frames[row + 1])) for row in rows]
        names = ("key", "label", "group", "offset", "size", "crc32", "height", "width")
        found[record.name] = ListedShard(
            record,
            {name: np.array(getattr(index, f"sample_{name}")[rows.start : rows.stop]) for name in names},
            tuple(np.array(index.frame_length[part]) for part in frames),
            tuple(np.array(index.frame_crc32[part]) for part in frames),
            None if index.frame_time is None else tuple(np.array(index.frame_time[part]) for part in frames),
        )
    return found


def listed_videos(task: ShardTask, wanted: Sequence[Video], listed: ListedShard) -> list[PackedVideo] | None:
    """Return the videos of a listed shard if making it would give the same: same contents, sound tar.

    The contents of every source are compared, and every byte of the tar.

    Args:
        task: what it would be made from.
        wanted: those of its videos that are to be in the shard, by name those that are in it.
        listed: what it is.
    """
    packed = []
    sound: dict[str, str] = {}  # SHA-256 of the sources that were read: of spans there is one for many
    identities = {video.key: identity for video, identity in zip(task.videos, task.identities, strict=True)}
    try:
        with storage.local_copy(storage.join(task.out, task.name)) as tar:
            if sha256_of(tar) != listed.record.sha256:
                return None
            for row, video in enumerate(wanted):
                found = _listed_video(task, video, listed, row, tar)
                if found is None:
                    return None
                if sound.get(video.path) != found.source_sha256:
                    if not _source_is(video.path, identities[video.key], found.source_sha256):
                        return None
                    sound[video.path] = found.source_sha256
                packed.append(found)
    except (OSError, ValueError, KeyError):
        return None
    write_index(task, packed)
    return packed


def _listed_video(task: ShardTask, video: Video, listed: ListedShard, row: int, tar: Path) -> PackedVideo | None:
    """Put together what is known of a video in a sound tar; None when it is not what the task would make."""
    samples = {name: column[row] for name, column in listed.samples.items()}
    offset, size = int(samples["offset"]), int(samples["size"])
    lengths = listed.lengths[row]
    packed = PackedVideo(
        video,
        offset,
        lengths,
        listed.frame_crc32[row],
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
        "class": task.class_of(video),
        "label": video.label,
        "group": video.group,
        "source": video.relative,
        "span": asdict(video.span) if video.span else None,
    }
    if any(about.get(name) != value for name, value in expected.items()):
        return None
    packed.about_size = len(text)
    packed.source_sha256 = about["source_sha256"]
    packed.fps = float(about["fps"])
    packed.remark = about.get("remark", "")
    packed.salvaged = "salvaged" in about
    if listed.frame_time is not None:
        packed.times = uneven_times(listed.frame_time[row], packed.fps)
    return packed
