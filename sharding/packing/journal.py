"""What an unfinished shard set knows about itself: the plan, and a record of every finished shard.

Both lie in `.pack` in the output and go when the set is finished, so they leave no trace in its bytes. A record is
written after its tar; a tar without a record is made again.
"""

import base64
import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from pclkd.sharding.common import storage
from pclkd.sharding.common.errors import InputError
from pclkd.sharding.common.identity import identify
from pclkd.sharding.datasets.dataset import Dataset, Span, Video
from pclkd.sharding.packing.task import WORK_FOLDER, PackedVideo, ShardResult, ShardTask
from pclkd.sharding.shards.manifest import FORMAT_VERSION, Quarantined, ShardRecord
from pclkd.sharding.video.settings import PackSettings

__all__ = [
    "PLAN_NAME",
    "Plan",
    "Recorded",
    "agree_on_plan",
    "read_record",
    "record_name",
    "remove_record",
    "write_plan",
    "write_record",
]

PLAN_NAME = "plan.json"


@dataclass(frozen=True)
class Plan:
    """What is to be made, as it is written down: the settings, and each shard with its videos.

    Attributes:
        dataset: its videos are those of the shards, without their paths: these may differ from host to host.
        settings: how frames are stored.
        tasks: the shards.
        parts: how many runs make them; 0 for one run that makes all.
    """

    dataset: Dataset
    settings: PackSettings
    tasks: Sequence[ShardTask]
    parts: int = 0

    def as_bytes(self) -> bytes:
        """Return it as JSON, the same bytes wherever the videos lie."""
        about = {name: value for name, value in vars(self.dataset).items() if name not in ("videos", "notes")}
        shards = [
            {
                "name": task.name,
                "key": task.key,
                "videos": [_as_json(video) for video in task.videos],
            }
            for task in self.tasks
        ]
        fields = {
            "format_version": FORMAT_VERSION,
            "parts": self.parts,
            "settings": asdict(self.settings),
            "dataset": about,
            "shards": shards,
        }
        return (json.dumps(fields, indent=1) + "\n").encode()

    @classmethod
    def read(cls, out: str) -> "Plan | None":
        """Read the plan of an unfinished set; None where there is none that this program wrote."""
        try:
            fields = json.loads(storage.read_bytes(_url(out, PLAN_NAME)))
            if fields["format_version"] != FORMAT_VERSION:
                return None
            settings = PackSettings(**fields["settings"])
            shards = {
                int(shard["name"][6:12]): tuple(_video(video) for video in shard["videos"])
                for shard in fields["shards"]
            }
            about: dict[str, Any] = {
                name: tuple(v) if isinstance(v, list) else v for name, v in fields["dataset"].items()
            }
            dataset = Dataset(**about, videos=tuple(video for videos in shards.values() for video in videos))
        except (OSError, ValueError, KeyError, TypeError):
            return None
        tasks = [ShardTask(n, videos, (), dataset.classes, out, settings, "") for n, videos in shards.items()]
        return cls(dataset, settings, tasks, fields["parts"])


def _as_json(video: Video) -> dict[str, Any]:
    return {**vars(video), "path": "", "span": asdict(video.span) if video.span else None}


def _video(fields: dict[str, Any]) -> Video:
    parts = {int(number): part for number, part in fields["parts"].items()}
    return Video(**{**fields, "parts": parts, "span": Span(**fields["span"]) if fields["span"] else None})


def write_plan(out: str, plan: Plan, run: str) -> None:
    """Write down what is to be made. Other runs may write the same at the same time."""
    url = _url(out, PLAN_NAME)
    if storage.is_remote(out):
        storage.write_bytes(url, plan.as_bytes())
        return
    path = storage.local_path(url)
    own = path.with_name(f"{PLAN_NAME}.{run}.part")
    own.write_bytes(plan.as_bytes())
    own.replace(path)


def agree_on_plan(out: str, plan: Plan, run: str) -> None:
    """Write down a plan of which others make parts too, or compare it with what they have written down.

    Raises:
        InputError: they make something else.
    """
    there = Plan.read(out)
    if there is not None and there.parts:
        if there.parts != plan.parts:
            raise InputError(
                f"{out} is being packed in {there.parts} parts, not in {plan.parts}",
                remedy=f"say --part I/{there.parts}, or give another place",
            )
        if there.as_bytes() != plan.as_bytes():
            what = "settings" if there.settings != plan.settings else "videos or lists"
            raise InputError(
                f"{out} is being packed from other {what} than these",
                remedy="let every part see the same videos and lists, with the same options; to begin anew, remove "
                f"{storage.join(out, WORK_FOLDER)}",
            )
        return
    write_plan(out, plan, run)


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
