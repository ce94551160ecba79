import shutil
from pathlib import Path

import av
import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image

from pclkd.sharding import InputError, ShardIndex, pack_videos, plan_packing
from pclkd.sharding.cli import main
from pclkd.sharding.common.storage import put
from pclkd.sharding.shards.samples import find_sample, read_frames, read_jpegs, read_notes


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def test_frames_are_those_that_a_player_shows(synthetic_shards: Path, tmp_path: Path) -> None:
    index = ShardIndex.open(synthetic_shards)
    sample = len(index) - 1
    (tmp_path / "all.mjpeg").write_bytes(b"".join(read_jpegs(index, sample, range(96))))
    with av.open(str(tmp_path / "all.mjpeg")) as container:
        played = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    numbers = [0, 1, 2, 40, 95]
    for frame, number in zip(read_frames(index, sample, numbers), numbers, strict=True):
        assert frame.shape == (64, 86, 3)
        # Two decoders enlarge chroma differently; luma is the same but for rounding.
        ours, theirs = (np.asarray(Image.fromarray(rgb).convert("L"), int) for rgb in (frame, played[number]))
        assert np.abs(ours - theirs).mean() < 1
        assert np.abs(frame.astype(int) - played[number]).mean() < 5


def test_notes_are_those_of_the_sample(synthetic_shards: Path) -> None:
    index = ShardIndex.open(synthetic_shards)
    for sample in range(len(index)):
        notes = read_notes(index, sample)
        assert notes["key"] == index.key(sample)
        assert notes["class"] == index.classes[index.sample_label[sample]]
        assert notes["frames"] == 96


def test_damage_is_told(synthetic_shards: Path, tmp_path: Path) -> None:
    root = Path(shutil.copytree(synthetic_shards, tmp_path / "shards"))
    index = ShardIndex.open(root)
    shard = Path(index.shard_url(0))
    data = bytearray(shard.read_bytes())
    data[int(index.frame_offset[5]) + 100] ^= 1
    end = int(index.sample_offset[0]) - 512 + int(index.sample_size[0])
    data[end - 1024 : end] = bytes(1024)
    shard.write_bytes(data)
    assert len(read_jpegs(index, 0, [4, 6])) == 2
    with pytest.raises(InputError, match=r"frame 5 of video .* is damaged"):
        read_jpegs(index, 0, [4, 5])
    with pytest.raises(InputError, match="notes"):
        read_notes(index, 0)


def test_the_nearest_key_is_named(synthetic_shards: Path) -> None:
    index = ShardIndex.open(synthetic_shards)
    key = index.key(7)
    assert find_sample(index, key) == 7
    for wrong in (key.lower(), f"Class/{key}.avi", key[:-1], key.replace("_c", "_")):
        with pytest.raises(InputError, match="did you mean") as told:
            find_sample(index, wrong)
        assert repr(key) in told.value.remedy
    for wrong in ("", "é", "/", "zzzzzz"):
        with pytest.raises(InputError, match="no video"):
            find_sample(index, wrong)


def test_the_nearest_key_is_found_among_many(synthetic_shards: Path) -> None:
    index = ShardIndex.open(synthetic_shards)
    index.sample_key = np.array([f"v_Class{number:05d}_g01".encode() for number in range(30_000)])[::-1]
    assert index.key(find_sample(index, "v_Class00007_g01")) == "v_Class00007_g01"
    for wrong, right in (("v_Class12345_g1", "v_Class12345_g01"), ("zzz", None), ("", None), ("aaa", None)):
        with pytest.raises(InputError, match="did you mean") as told:
            find_sample(index, wrong)
        assert right is None or right in told.value.remedy


def test_preview_of_a_video(synthetic_shards: Path, tmp_path: Path) -> None:
    index = ShardIndex.open(synthetic_shards)
    key = index.key(3)
    done = run("preview", synthetic_shards, "--video", key, "--out", tmp_path / "new" / "folder", "--frames", 8)
    assert done.exit_code == 0, done.output
    folder = tmp_path / "new" / "folder"
    assert sorted(path.name for path in folder.iterdir()) == [f"{key}.gif", f"{key}.png"]
    with Image.open(folder / f"{key}.gif") as gif:
        assert gif.size == (86, 64)
        total = 0
        for number in range(gif.n_frames):
            gif.seek(number)
            total += gif.info["duration"]
    assert abs(total - 96 / read_notes(index, 3)["fps"] * 1000) <= 20
    with Image.open(folder / f"{key}.png") as sheet:
        # 8 frames of 86 pixels, doubled, six a row
        assert sheet.width == 6 * 172 + 5 * 6 + 2 * 20
        pixels = np.asarray(sheet)
    frame = read_frames(index, 3, [0])[0].repeat(2, axis=0).repeat(2, axis=1)
    tops = [y for y in range(len(pixels) - 128) if (pixels[y : y + 128, 20 : 20 + 172] == frame).all()]
    assert len(tops) == 1


def test_preview_of_the_classes(synthetic_shards: Path, tmp_path: Path) -> None:
    done = run("preview", synthetic_shards, "--out", tmp_path)
    assert done.exit_code == 0, done.output
    index = ShardIndex.open(synthetic_shards)
    pixels = np.asarray(Image.open(tmp_path / "classes.png"))
    first = int(np.flatnonzero(index.sample_label == 2)[0])
    frame = read_frames(index, first, [48])[0].repeat(2, axis=0).repeat(2, axis=1)
    left = 20 + 2 * (172 + 6)
    assert any((pixels[y : y + 128, left : left + 172] == frame).all() for y in range(len(pixels) - 128))


def test_large_frames_are_made_smaller(synthetic_videos, tmp_path: Path) -> None:
    videos = tmp_path / "videos" / "Rotate"
    videos.mkdir(parents=True)
    name = "Rotate__1"
    shutil.copy(synthetic_videos.videos / "Rotate" / "v_Rotate_g01_c01.avi", videos / "1.avi")
    pack_videos(plan_packing(videos.parent, height=600, width=800, max_frames=3), tmp_path / "out")
    assert run("preview", tmp_path / "out", "--video", name, "--out", tmp_path).exit_code == 0
    with Image.open(tmp_path / f"{name}.gif") as gif:
        assert gif.size == (480, 360)
    with Image.open(tmp_path / f"{name}.png") as sheet:
        assert sheet.width == 3 * 400 + 2 * 6 + 2 * 20


def test_wrong_input_is_one_line(synthetic_shards: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for arguments, told in (
        ([synthetic_shards, "--video", "nobody"], "no video 'nobody'"),
        ([tmp_path, "--video", "x"], "no finished shard set"),
        ([synthetic_shards, "--out", tmp_path / "file"], "is not a folder"),
    ):
        done = run("preview", *arguments)
        assert done.exit_code == 2, done.output
        assert told in done.stderr
        assert done.stderr.count("\n") == 1


def test_a_set_behind_a_url(synthetic_shards: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("PCLKD_CACHE", str(tmp_path / "cache"))
    for path in synthetic_shards.rglob("*"):
        if path.is_file():
            put(path, f"memory://preview/set/{path.relative_to(synthetic_shards)}")
    key = ShardIndex.open(synthetic_shards).key(1)
    done = run("preview", "memory://preview/set", "--video", key, "--out", tmp_path / "remote")
    assert done.exit_code == 0, done.output
    assert run("preview", synthetic_shards, "--video", key, "--out", tmp_path / "local").exit_code == 0
    for name in (f"{key}.png", f"{key}.gif"):
        assert (tmp_path / "remote" / name).read_bytes() == (tmp_path / "local" / name).read_bytes()
    told = run("info", "memory://preview/set").stdout
    assert told == run("info", synthetic_shards).stdout
    assert "per class    min 4, median 4, max 4 videos" in told
