import shutil
from pathlib import Path

import numpy as np
import pytest

from pclkd.sharding import InputError, ShardIndex
from pclkd.sharding.shards.verify import verify_shards


@pytest.fixture
def shards(synthetic_shards: Path, tmp_path: Path) -> Path:
    """A copy that may be damaged."""
    return Path(shutil.copytree(synthetic_shards, tmp_path / "shards"))


def flip(path: Path, place: int) -> None:
    data = bytearray(path.read_bytes())
    data[place] ^= 0x01
    path.write_bytes(data)


def test_sound_set(synthetic_shards: Path) -> None:
    seen: list[str] = []
    report = verify_shards(synthetic_shards, step=seen.append)
    assert (report.shards, report.videos, report.frames, report.damage) == (4, 16, 1536, ())
    assert sorted(seen) == sorted(path.name for path in synthetic_shards.glob("*.tar"))


@pytest.mark.real_videos
def test_sound_set_of_real_videos(real_shards: Path) -> None:
    report = verify_shards(real_shards)
    assert (report.videos, report.damage) == (71, ())


@pytest.mark.real_videos
def test_one_flipped_byte_names_its_video_among_those_of_the_shard(real_shards: Path, tmp_path: Path) -> None:
    shards = Path(shutil.copytree(real_shards, tmp_path / "shards"))
    index = ShardIndex.open(shards)
    sample = 7
    assert index.manifest.shards[index.sample_shard[sample]].samples > 1
    row = int(index.sample_frames[sample]) + 20
    flip(Path(index.shard_url(int(index.sample_shard[sample]))), int(index.frame_offset[row]) + 100)
    report = verify_shards(shards)
    assert report.damaged_videos == (index.key(sample),)
    (damage,) = report.damage
    assert damage.problem == f"1 of {index.frame_count(sample)} frames are damaged, the first is frame 20"


@pytest.mark.parametrize("sample", [0, 9, 15])
def test_damaged_header_or_json_names_its_video(shards: Path, sample: int) -> None:
    index = ShardIndex.open(shards)
    path = Path(index.shard_url(int(index.sample_shard[sample])))
    start = int(index.sample_offset[sample]) - 512
    size = int(index.sample_size[sample])
    text = path.read_bytes()[start : start + size].rindex(b'"source_sha256": "') + 20
    for place in (3, 512 - 30, text, size - 1):
        flip(path, start + place)
        report = verify_shards(shards)
        assert report.damaged_videos == (index.key(sample),)
        assert "header or its JSON" in report.damage[0].problem
        flip(path, start + place)
    assert not verify_shards(shards).damage


def test_byte_outside_of_all_videos_blames_none(shards: Path) -> None:
    path = shards / "shard-000002.tar"
    flip(path, path.stat().st_size - 5)
    (damage,) = verify_shards(shards).damage
    assert (damage.file, damage.video) == ("shard-000002.tar", None)


def test_missing_shard_names_it_and_its_videos(shards: Path) -> None:
    index = ShardIndex.open(shards)
    Path(index.shard_url(2)).unlink()
    report = verify_shards(shards)
    inside = sorted(index.key(int(sample)) for sample in np.flatnonzero(index.sample_shard == 2))
    assert list(report.damaged_videos) == inside
    assert {damage.file for damage in report.damage} == {"shard-000002.tar"}


def test_cut_shard_names_it_and_the_videos_that_are_cut(shards: Path) -> None:
    index = ShardIndex.open(shards)
    path = Path(index.shard_url(2))
    cut = int(np.flatnonzero(index.sample_shard == 2)[-2])
    path.write_bytes(path.read_bytes()[: int(index.sample_offset[cut]) + 1000])
    report = verify_shards(shards)
    assert report.damaged_videos == tuple(sorted((index.key(cut), index.key(cut + 1))))
    problems = [damage.problem for damage in report.damage]
    assert problems[0].startswith("is cut off: 1512 of ")
    assert problems[1].startswith("is cut off: 0 of ")
    assert problems[2].endswith(f"expected {index.manifest.shards[2].bytes}")


def test_appended_bytes_are_noticed(shards: Path) -> None:
    path = shards / "shard-000001.tar"
    with path.open("ab") as file:
        file.write(bytes(512))
    (damage,) = verify_shards(shards).damage
    assert (damage.file, damage.video) == ("shard-000001.tar", None)


def test_swapped_shards_are_noticed(shards: Path) -> None:
    one, two = shards / "shard-000000.tar", shards / "shard-000001.tar"
    one.rename(shards / "other")
    two.rename(one)
    (shards / "other").rename(two)
    index = ShardIndex.open(shards, check_shards=False)
    inside = {index.key(int(sample)) for sample in np.flatnonzero(index.sample_shard < 2)}
    assert set(verify_shards(shards).damaged_videos) == inside


@pytest.mark.parametrize("damage", ["flip", "remove"])
def test_damaged_column_is_named(shards: Path, damage: str) -> None:
    path = shards / "index" / "frame_length.npy"
    flip(path, 200) if damage == "flip" else path.unlink()
    (found,) = verify_shards(shards).damage
    assert (found.file, found.video) == ("index/frame_length.npy", None)


def test_damaged_column_does_not_hide_a_damaged_shard(shards: Path) -> None:
    flip(shards / "index" / "frame_length.npy", 200)
    flip(shards / "shard-000001.tar", 5000)
    assert [damage.file for damage in verify_shards(shards).damage] == ["index/frame_length.npy", "shard-000001.tar"]


@pytest.mark.parametrize("content", [None, b"v1.2 0\n"])
def test_damaged_wds_index_is_named(shards: Path, content: bytes | None) -> None:
    path = shards / "shard-000003.idx"
    path.unlink() if content is None else path.write_bytes(content)
    (damage,) = verify_shards(shards).damage
    assert (damage.file, damage.video) == ("shard-000003.idx", None)


def test_unfinished_set_cannot_be_verified(shards: Path) -> None:
    (shards / "manifest.json").unlink()
    with pytest.raises(InputError, match="no finished shard set"):
        verify_shards(shards)
