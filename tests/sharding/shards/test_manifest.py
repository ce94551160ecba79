import hashlib
import json
from pathlib import Path

import pytest

from pclkd.sharding import InputError, Manifest
from pclkd.sharding.shards.manifest import MANIFEST_NAME, Quarantined, ShardRecord, SplitCount
from pclkd.sharding.video.settings import PackSettings


def example() -> Manifest:
    return Manifest(
        format_version=2,
        dataset="ucf101",
        source="UCF-101",
        settings=PackSettings(128, 171, videos_per_shard=5),
        classes=("Archery", "Épée"),
        splits={"1": SplitCount(2, 1)},
        videos=3,
        frames=300,
        shards=(ShardRecord("shard-000000.tar", 10240, 3, "ab" * 32),),
        columns={"frame_offset": "cd" * 32},
        quarantined=(Quarantined("Archery/v.avi", "is empty"),),
        missing=("Archery/w.avi",),
        unlisted=(),
    ).signed()


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    example().write(tmp_path)
    assert Manifest.read(tmp_path) == example()
    assert [path.name for path in tmp_path.iterdir()] == [MANIFEST_NAME]


def test_fingerprint_is_the_documented_hash_of_all_other_fields(tmp_path: Path) -> None:
    example().write(tmp_path)
    fields = json.loads((tmp_path / MANIFEST_NAME).read_text())
    fingerprint = fields.pop("fingerprint")
    canonical = json.dumps(fields, sort_keys=True, separators=(",", ":"))
    assert fingerprint == hashlib.sha256(canonical.encode()).hexdigest()


@pytest.mark.parametrize("field", ["source", "settings", "classes", "videos", "shards", "columns", "missing", "splits"])
def test_any_changed_field_is_noticed(tmp_path: Path, field: str) -> None:
    example().write(tmp_path)
    path = tmp_path / MANIFEST_NAME
    fields = json.loads(path.read_text())
    fields[field] = None
    path.write_text(json.dumps(fields))
    with pytest.raises(InputError, match="fingerprint does not fit"):
        Manifest.read(tmp_path)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (b"", "is damaged"),
        (b'{"format_version": 1', "is damaged"),
        (b"\xff\xfe", "is damaged"),
        (b"[]", "format version None"),
        (b"{}", "format version None"),
        (b'{"format_version": 3}', "format version 3, this program reads version 2"),
        (b'{"format_version": 2}', "fingerprint does not fit"),
    ],
)
def test_damaged_manifest(tmp_path: Path, text: bytes, told: str) -> None:
    (tmp_path / MANIFEST_NAME).write_bytes(text)
    with pytest.raises(InputError, match=told) as caught:
        Manifest.read(tmp_path)
    assert str(tmp_path) in str(caught.value)


def test_no_folder_and_no_manifest(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no folder of shards"):
        Manifest.read(tmp_path / "nowhere")
    (tmp_path / "shard-000000.tar").write_bytes(b"half")
    with pytest.raises(InputError, match="no finished shard set"):
        Manifest.read(tmp_path)
