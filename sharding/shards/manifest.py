"""manifest.json: what a shard set holds. It is written last, so a folder without one is no finished set."""

import dataclasses
import functools
import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pclkd.sharding.common import storage
from pclkd.sharding.common.errors import InputError
from pclkd.sharding.common.files import parse_json
from pclkd.sharding.video.settings import PackSettings, settings_as_json

__all__ = ["FORMAT_VERSION", "MANIFEST_NAME", "Manifest", "Quarantined", "Remark", "ShardRecord", "SplitCount"]

FORMAT_VERSION = 2
MANIFEST_NAME = "manifest.json"
_OPTIONAL = frozenset({"other_files", "remarks"})  # left out where empty, as sets of before have none
_FILE_NAME = re.compile(r"\w[\w.-]{0,199}", re.ASCII)
_SHA256 = re.compile(r"[0-9a-f]{64}")
_SPLIT = re.compile(r"0|[1-9][0-9]{0,8}")
_LARGEST = 2**63 - 1
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
            text = storage.read_bytes(path)
            fields = parse_json(text)
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
        try:
            # Whoever changes a set can sign it anew: the fingerprint tells of damage, not of intent.
            manifest: Manifest = _reader().validate_json(text, strict=True)
            _check_contents(manifest)
        except ValueError as error:
            raise InputError(f"{path} is no manifest ({_first_fault(error)})", remedy=_PACK_AGAIN) from None
        return manifest


def _fingerprint(fields: dict[str, Any]) -> str:
    rest = {name: value for name, value in fields.items() if name != "fingerprint"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


@functools.cache
def _reader() -> Any:
    from pydantic import TypeAdapter  # not before a manifest is read

    return TypeAdapter(Manifest)


def _first_fault(error: ValueError) -> str:
    from pydantic import ValidationError

    from pclkd.sharding.common.settings import first_fault

    if not isinstance(error, ValidationError):
        return str(error)
    path, value, fault = first_fault(error)
    return f"{path} = {value!r}: {fault}"


def _check_contents(manifest: Manifest) -> None:
    """Refuse what no packer writes: names that lead out of the set's folder, or that a terminal would obey.

    Raises:
        ValueError: with what is wrong.
    """
    for name in (*(shard.name for shard in manifest.shards), *(f"{column}.npy" for column in manifest.columns)):
        if not _FILE_NAME.fullmatch(name):
            raise ValueError(f"{name!r} is no name of a file in the set")
    for shard in manifest.shards:
        if not (0 <= shard.bytes <= _LARGEST and 0 <= shard.samples <= _LARGEST):
            raise ValueError(f"{shard.name} has {shard.bytes} bytes and {shard.samples} samples")
    for what, names in (("shard", [shard.name for shard in manifest.shards]), ("class", manifest.classes)):
        if len(set(names)) < len(names):
            raise ValueError(f"a {what} is named twice")
    for column, sha256 in manifest.columns.items():
        if not _SHA256.fullmatch(sha256):
            raise ValueError(f"{sha256!r} is no SHA-256 of the column {column}")
    for number in manifest.splits:
        if not _SPLIT.fullmatch(number):
            raise ValueError(f"{number!r} is no number of a split")
    for told in (manifest.dataset, manifest.source, *manifest.classes, *manifest.missing, *manifest.unlisted):
        if not told.isprintable():
            raise ValueError(f"the name {told!r} cannot be printed")
