"""Whether a finished shard of an earlier run can stay: checked, not trusted."""

from pclkd.sharding.common import storage
from pclkd.sharding.packing.journal import read_record, stored_version
from pclkd.sharding.packing.shard import sha256_of, write_index
from pclkd.sharding.packing.task import ShardResult, ShardTask
from pclkd.sharding.shards.manifest import ShardRecord

__all__ = ["keep_shard", "source_is", "tar_is"]


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
