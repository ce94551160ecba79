"""manifest.json: what a shard set holds. It is written last, so a folder without one is no finished set."""

import dataclasses
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pclkd.sharding.common import storage
from pclkd.sharding.common.errors import InputError
from pclkd.sharding.video.settings import PackSettings, settings_as_json

__all__ = ["FORMAT_VERSION", "MANIFEST_NAME", "Manifest", "Quarantined", "Remark", "ShardRecord", "SplitCount"]

FORMAT_VERSION = 2
MANIFEST_NAME = "manifest.json"
_OPTIONAL = frozenset({"other_files", "remarks"})  # left out where empty, as sets of before have none
_PACK_AGAIN = "pack the videos again with 'shard-ucf101 pack'"


@dataclass(frozen=True)
class ShardRecord:
    """One tar: file name, length in bytes, number of samples, SHA-256 as hex."""

    name: str
    bytes: int
    samples: int
    sha256: str


@dataclass(frozen=True)
class SplitCount:
    """How many packed videos a split trains and tests on."""

    train: int
    test: int


@dataclass(frozen=True)
class Quarantined:
    """A video that was left out, and why."""

    video: str
    reason: str


@dataclass(frozen=True)
class Remark:
    """A packed video, and what a user should know about how it was read."""

    video: str
    told: str


@dataclass(frozen=True)
class Manifest:
    """The contents of manifest.json.

    Attributes:
        dataset: name of the layout that was read.
        source: name of the folder or table the videos came from, without its path.
        classes: class names; the position is the label.
        splits: counts per split; the keys are the split numbers, as text.
        columns: SHA-256 of each file in `index/`, by column name.
        missing: listed videos that were not on disk.
        unlisted: videos that no list names; of ucf101 and hmdb51 they are packed, in no part.
        remarks: what was chosen where a file left a choice. A set without any does not have the field.
        other_files: how many files of the class folders are no videos, by suffix. Likewise.
        fingerprint: SHA-256 over all the other fields; two sets with the same one hold the same bytes.
    """

    format_version: int
    dataset: str
    source: str
    settings: PackSettings
    classes: tuple[str, ...]
    splits: dict[str, SplitCount]
    videos: int
    frames: int
    shards: tuple[ShardRecord, ...]
    columns: dict[str, str]
    quarantined: tuple[Quarantined, ...]
    missing: tuple[str, ...]
    unlisted: tuple[str, ...]
    remarks: tuple[Remark, ...] = ()
    other_files: dict[str, int] = dataclasses.field(default_factory=dict)
    fingerprint: str = ""

    def signed(self) -> "Manifest":
        """Return this manifest with its fingerprint filled in."""
        return dataclasses.replace(self, fingerprint=_fingerprint(self._fields()))

    def write(self, root: str | Path) -> None:
        """Write it to `root` (folder or URL), whole or not at all."""
        storage.write_bytes(storage.join(root, MANIFEST_NAME), (json.dumps(self._fields(), indent=1) + "\n").encode())

    def _fields(self) -> dict[str, Any]:
        fields = {**dataclasses.asdict(self), "settings": settings_as_json(self.settings)}
        return {name: value for name, value in fields.items() if value or name not in _OPTIONAL}

    @classmethod
    def read(cls, root: str | Path) -> "Manifest":
        """Read and check the manifest of a shard set (folder or URL).

        Raises:
            InputError: no such folder, no finished shard set, damaged, or of another format version.
        """
        path = storage.join(root, MANIFEST_NAME)
        if not storage.is_remote(root) and not storage.local_path(root).is_dir():
            raise InputError(f"no folder of shards at {root}", remedy="make it with 'shard-ucf101 pack'")
        try:
            fields = json.loads(storage.read_bytes(path))
        except FileNotFoundError:
            raise InputError(
                f"no finished shard set at {root}: it has no {MANIFEST_NAME}", remedy=_PACK_AGAIN
            ) from None
        except (ValueError, IsADirectoryError) as error:
            raise InputError(f"{path} is damaged ({error})", remedy=_PACK_AGAIN) from None
        version = fields.get("format_version") if isinstance(fields, dict) else None
        if version != FORMAT_VERSION:
            raise InputError(
                f"{path} has format version {version!r}, this program reads version {FORMAT_VERSION}",
                remedy=_PACK_AGAIN if version is None else f"{_PACK_AGAIN} or use the release that wrote the set",
            )
        if fields.get("fingerprint") != _fingerprint(fields):
            raise InputError(f"{path} is damaged: its fingerprint does not fit its contents", remedy=_PACK_AGAIN)
        return _from_json(fields)


def _fingerprint(fields: dict[str, Any]) -> str:
    rest = {name: value for name, value in fields.items() if name != "fingerprint"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def _from_json(fields: dict[str, Any]) -> Manifest:
    # The fingerprint fits, so the fields are as `write` left them.
    return Manifest(
        **{
            **fields,
            "settings": PackSettings(**fields["settings"]),
            "classes": tuple(fields["classes"]),
            "splits": {number: SplitCount(**count) for number, count in fields["splits"].items()},
            "shards": tuple(ShardRecord(**shard) for shard in fields["shards"]),
            "quarantined": tuple(Quarantined(**video) for video in fields["quarantined"]),
            "missing": tuple(fields["missing"]),
            "unlisted": tuple(fields["unlisted"]),
            "remarks": tuple(Remark(**remark) for remark in fields.get("remarks", ())),
        }
    )
