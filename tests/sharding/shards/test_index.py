import shutil
from pathlib import Path

import numpy as np
import pytest

from pclkd.sharding import InputError, ShardIndex


@pytest.fixture
def shards(synthetic_shards: Path, tmp_path: Path) -> Path:
    """A copy that may be damaged."""
    return Path(shutil.copytree(synthetic_shards, tmp_path / "shards"))


def test_columns_are_plain_arrays_of_the_promised_types(synthetic_shards: Path) -> None:
    index = ShardIndex.open(synthetic_shards)
    expected = {
        "sample_shard": (np.int32, (16,)),
        "sample_offset": (np.int64, (16,)),
        "sample_size": (np.int64, (16,)),
        "sample_crc32": (np.uint32, (16,)),
        "sample_height": (np.int32, (16,)),
        "sample_width": (np.int32, (16,)),
        "sample_frames": (np.int64, (17,)),
        "sample_label": (np.int32, (16,)),
        "sample_group": (np.int32, (16,)),
        "sample_split": (np.uint8, (16, 3)),
        "frame_offset": (np.int64, (16 * 96,)),
        "frame_length": (np.int32, (16 * 96,)),
        "frame_crc32": (np.uint32, (16 * 96,)),
    }
    for name, (dtype, shape) in expected.items():
        column = getattr(index, name)
        assert type(column) is np.ndarray, name
        assert (column.dtype, column.shape) == (dtype, shape), name
        assert not column.flags.writeable
    assert index.sample_key.dtype.kind == "S"
    assert index.smallest_frame == (64, 86)
    assert index.sample_sizes([3, 0]).tolist() == [[64, 86], [64, 86]]
    assert len(index) == 16
    assert index.fingerprint == index.manifest.fingerprint


def test_the_parts_of_a_split_are_disjoint_and_cover_all(synthetic_shards: Path) -> None:
    index = ShardIndex.open(synthetic_shards)
    held_out = []
    for split in (1, 2, 3):
        train, test = index.split_samples(split, "train"), index.split_samples(split, "test")
        assert sorted([*train, *test]) == list(range(16))
        assert list(train) == sorted(train)
        assert train.dtype == np.int64
        assert not set(index.sample_group[train]) & set(index.sample_group[test])
        held_out.append(set(index.sample_group[test].tolist()))
    assert held_out == [{1}, {2}, {3}]


def test_unknown_split_names_those_that_exist(synthetic_shards: Path) -> None:
    with pytest.raises(InputError, match=r"no split 4 .*1 \(12 train, 4 test\), 2 .*, 3 "):
        ShardIndex.open(synthetic_shards).split_samples(4, "train")


def test_missing_shard_is_named(shards: Path) -> None:
    (shards / "shard-000003.tar").unlink()
    with pytest.raises(InputError, match=r"shard-000003\.tar is missing"):
        ShardIndex.open(shards)


def test_cut_shard_is_named_with_both_lengths(shards: Path) -> None:
    path = shards / "shard-000003.tar"
    size = path.stat().st_size
    path.write_bytes(path.read_bytes()[:-512])
    with pytest.raises(InputError, match=rf"shard-000003\.tar has {size - 512} bytes, expected {size}"):
        ShardIndex.open(shards)


@pytest.mark.parametrize("name", ["sample_split", "frame_offset", "sample_frames", "sample_key"])
def test_missing_damaged_or_foreign_column_is_named(shards: Path, name: str) -> None:
    path = shards / "index" / f"{name}.npy"
    column = np.load(path)
    for damaged in (column[1:], np.zeros(column.shape, np.float32)):
        np.save(path, damaged)
        with pytest.raises(InputError, match=name):
            ShardIndex.open(shards)
    for content in (b"", b"no array", np.lib.format.MAGIC_PREFIX + b"\x01\x00"):
        path.write_bytes(content)
        with pytest.raises(InputError, match=name):
            ShardIndex.open(shards)
    path.unlink()
    with pytest.raises(InputError, match=f"no index column .*{name}"):
        ShardIndex.open(shards)


def test_frames_that_do_not_add_up(shards: Path) -> None:
    path = shards / "index" / "sample_frames.npy"
    column = np.load(path)
    column[-1] -= 1
    np.save(path, column)
    with pytest.raises(InputError, match="does not cover 1536 frames"):
        ShardIndex.open(shards)


def test_unfinished_set(shards: Path) -> None:
    (shards / "manifest.json").unlink()
    with pytest.raises(InputError, match="no finished shard set"):
        ShardIndex.open(shards)
