"""What an unfinished shard set knows about itself: the plan, and a record of every finished shard.

Both lie in `.pack` in the output and go when the set is finished, so they leave no trace in its bytes. A record is
written after its tar; a tar without a record is made again.
"""

import base64
import functools
import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from typing import Any

import numpy as np
import numpy.typing as npt

from pclkd.sharding.common import storage
from pclkd.sharding.common.errors import InputError
from pclkd.sharding.common.files import parse_json
from pclkd.sharding.common.identity import version_of
from pclkd.sharding.datasets.dataset import NO_LABEL, Dataset, Video
from pclkd.sharding.datasets.names import is_sample_key
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
            fields = parse_json(storage.read_bytes(_url(out, PLAN_NAME)))
            if fields["format_version"] != FORMAT_VERSION:
                return None
            settings: PackSettings = _reader(PackSettings).validate_python(fields["settings"])
            videos = [video for shard in fields["shards"] for video in shard["videos"]]
            dataset: Dataset = _reader(Dataset).validate_python({**fields["dataset"], "videos": videos})
            counts = [(int(shard["name"][6:12]), len(shard["videos"])) for shard in fields["shards"]]
            parts = int(fields["parts"])
        except (AttributeError, InputError, KeyError, OSError, OverflowError, TypeError, ValueError):
            return None
        if not all(is_sample_key(v.key) and NO_LABEL <= v.label < len(dataset.classes) for v in dataset.videos):
            return None
        left = iter(dataset.videos)
        shards = {number: tuple(islice(left, count)) for number, count in counts}
        tasks = [ShardTask(n, videos, (), dataset.classes, out, settings, "") for n, videos in shards.items()]
        return cls(dataset, settings, tasks, parts)


@functools.cache
def _reader(kind: type) -> Any:
    from pydantic import TypeAdapter  # not before a plan is read

    return TypeAdapter(kind)


def _as_json(video: Video) -> dict[str, Any]:
    return {**vars(video), "path": "", "span": asdict(video.span) if video.span else None}


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
                f"{out}",
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

    def check(self) -> None:
        """Refuse what `write_record` does not write: the set is put together from it.

        Raises:
            ValueError: values of other types, or frames that lie nowhere.
        """
        whole = [
            number
            for video in self.result.packed
            for number in (video.offset, video.size, video.height, video.width, video.about_size, video.crc32)
        ]
        told = [(video.source_sha256, video.remark) for video in self.result.packed]
        left_out = [(video.video, video.reason) for video in self.result.quarantined]
        if not all(type(number) is int and 0 <= number < 2**63 for number in whole):
            raise ValueError("a number is none")
        if not all(isinstance(text, str) for pair in (*told, *left_out) for text in pair):
            raise ValueError("a text is none")
        for video in self.result.packed:
            if not (isinstance(video.fps, float) and 0 <= video.fps < math.inf and isinstance(video.salvaged, bool)):
                raise ValueError("a rate is none")
            if not 0 < len(video.lengths) == len(video.frame_crc32) or (video.lengths <= 0).any():
                raise ValueError("a video has no frames")
            if video.times is not None and len(video.times) != len(video.lengths):
                raise ValueError("not every frame has its time")
        record = self.result.record
        if (record is None) != (not self.result.packed) or not isinstance(record.name if record else "", str):
            raise ValueError("a shard without videos, or videos without a shard")
        if not (whole or left_out):
            raise ValueError("it tells of no video")


def read_record(task: ShardTask) -> Recorded | None:
    """Return the record of a shard if there is one, undamaged, of the same task: same settings, same videos."""
    try:
        body = parse_json(storage.read_bytes(_url(task.out, record_name(task))))
        told = body.pop("sha256")
        if told != _sum(body) or body["key"] != task.key:
            return None
        recorded = Recorded(task, body)
        recorded.check()
    except (AttributeError, KeyError, OSError, TypeError, ValueError):
        return None
    return recorded


def stored_version(task: ShardTask) -> str:
    """Return what a store tells of a tar's version, "" on a local file system, where tars are read to be checked."""
    return version_of(storage.join(task.out, task.name)) if storage.is_remote(task.out) else ""


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
