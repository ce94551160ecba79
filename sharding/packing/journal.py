"""What an unfinished shard set knows about itself: the plan, and a record of every finished shard.

Both lie in `.pack` in the output and go when the set is finished, so they leave no trace in its bytes. A record is
written after its tar; a tar without a record is made again.
"""

import base64
import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import numpy.typing as npt

from pclkd.sharding.common import storage
from pclkd.sharding.packing.task import WORK_FOLDER, PackedVideo, ShardResult, ShardTask
from pclkd.sharding.shards.manifest import FORMAT_VERSION, Quarantined, ShardRecord
from pclkd.sharding.video.settings import PackSettings

__all__ = ["PLAN_NAME", "Recorded", "read_record", "record_name", "remove_record", "write_plan", "write_record"]

PLAN_NAME = "plan.json"


def write_plan(out: str, source: str, settings: PackSettings, tasks: Sequence[ShardTask]) -> None:
    """Write down what is to be made: the settings, and each shard's videos and key."""
    shards = [{"name": t.name, "key": t.key, "videos": [video.relative for video in t.videos]} for t in tasks]
    plan = {"format_version": FORMAT_VERSION, "source": source, "settings": asdict(settings), "shards": shards}
    storage.write_bytes(_url(out, PLAN_NAME), (json.dumps(plan, indent=1) + "\n").encode())


def record_name(task: ShardTask) -> str:
    """Return the file name of a shard's record in `.pack`."""
    return f"{task.name.removesuffix('.tar')}.json"


def write_record(task: ShardTask, result: ShardResult) -> None:
    """Write down that a shard is finished, and from what."""
    body = {
        "key": task.key,
        "identities": task.identities,
        "stored": stored_version(task),
        "record": asdict(result.record) if result.record else None,
        "packed": [_packed_as_json(video) for video in result.packed],
        "quarantined": [asdict(video) for video in result.quarantined],
    }
    text = json.dumps({"sha256": _sum(body), **body}) + "\n"
    storage.write_bytes(_url(task.out, record_name(task)), text.encode())


def remove_record(task: ShardTask) -> None:
    """Take back that a shard is finished."""
    storage.remove(_url(task.out, record_name(task)))


class Recorded:
    """A record that was read: what it was made from (`identities`), how the tar was stored, and the result."""

    def __init__(self, task: ShardTask, body: dict[str, Any]) -> None:
        videos = {video.key: video for video in task.videos}
        self.identities: tuple[str, ...] = tuple(body["identities"])
        self.stored: str = body["stored"]
        self.result = ShardResult(
            ShardRecord(**body["record"]) if body["record"] else None,
            [
                PackedVideo(
                    **{
                        **fields,
                        "video": videos[fields["video"]],
                        "lengths": _array(fields["lengths"], "<i4"),
                        "frame_crc32": _array(fields["frame_crc32"], "<u4"),
                        "times": None if fields["times"] is None else _array(fields["times"], "<f8"),
                    }
                )
                for fields in body["packed"]
            ],
            [Quarantined(**fields) for fields in body["quarantined"]],
            kept=True,
        )


def read_record(task: ShardTask) -> Recorded | None:
    """Return the record of a shard if there is one, undamaged, of the same task: same settings, same videos."""
    try:
        body = json.loads(storage.read_bytes(_url(task.out, record_name(task))))
        told = body.pop("sha256")
    except (OSError, ValueError, KeyError, AttributeError):
        return None
    if told != _sum(body) or body["key"] != task.key:
        return None
    return Recorded(task, body)


def stored_version(task: ShardTask) -> str:
    """Return what a store tells of a tar's version, "" on a local file system, where tars are read to be checked."""
    from pclkd.sharding.common.storage import identify

    return identify([storage.join(task.out, task.name)])[0] if storage.is_remote(task.out) else ""


def _url(out: str, name: str) -> str:
    return storage.join(out, WORK_FOLDER, name)


def _sum(body: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()


def _packed_as_json(video: PackedVideo) -> dict[str, Any]:
    return {
        **vars(video),
        "video": video.video.key,
        "lengths": _text(video.lengths, "<i4"),
        "frame_crc32": _text(video.frame_crc32, "<u4"),
        "times": None if video.times is None else _text(video.times, "<f8"),
    }


def _text(values: npt.NDArray[Any], dtype: str) -> str:
    return base64.b64encode(values.astype(dtype).tobytes()).decode()


def _array(text: str, dtype: str) -> npt.NDArray[Any]:
    return np.frombuffer(base64.b64decode(text), dtype=dtype)
