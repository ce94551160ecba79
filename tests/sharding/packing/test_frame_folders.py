"""Data sets whose videos are folders of frames, through the command line."""

import io
import json
import shutil
from pathlib import Path

import fsspec
import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from pclkd.sharding import Manifest, ShardIndex
from pclkd.sharding.cli import main
from pclkd.sharding.datasets.reading import read_dataset
from pclkd.sharding.shards.samples import read_jpegs, read_notes


def frame(number: int) -> bytes:
    out = io.BytesIO()
    Image.fromarray(np.full((32, 48, 3), 20 * number, np.uint8)).save(out, "JPEG", quality=90)
    return out.getvalue()


def videos(root: Path, *names: str, frames: int = 4) -> Path:
    for name in names:
        (root / name).mkdir(parents=True)
        for number in range(frames):
            (root / name / f"frame{number + 1:06d}.jpg").write_bytes(frame(number))
    return root


def pack(*arguments: object) -> tuple[int, str]:
    done = CliRunner().invoke(main, ["pack", *map(str, arguments), "--size=32x48", "--workers=1"])
    return done.exit_code, done.output


def test_with_a_class_level(tmp_path: Path) -> None:
    root = videos(tmp_path / "set", "jump/v.1", "jump/v.2", "run/anna/3")
    (root / "jump/v.1/notes.txt").touch()
    code, text = pack(root, tmp_path / "out")
    assert code == 0, text
    assert "read as folder: 2 class folders" in text
    index = ShardIndex.open(tmp_path / "out")
    keys = {index.key(sample): sample for sample in range(len(index))}
    assert {key.rpartition("-")[0] or key for key in keys} == {"jump__v_1", "jump__v_2", "run__anna__3"}
    assert read_jpegs(index, keys["run__anna__3"], range(4)) == [frame(number) for number in range(4)]
    assert read_notes(index, keys["run__anna__3"])["source"] == "run/anna/3/"
    assert index.manifest.other_files == {".txt": 1}
    assert CliRunner().invoke(main, ["verify", str(tmp_path / "out")]).exit_code == 0
    assert "already complete" in pack(root, tmp_path / "out")[1]
    assert CliRunner().invoke(main, ["info", str(tmp_path / "out"), "--quality", str(root)]).exit_code == 0
    (root / "run/anna/3/frame000002.jpg").write_bytes(frame(9))
    assert "1 of the " in pack(root, tmp_path / "out")[1]


def test_without_a_class_level(tmp_path: Path) -> None:
    code, text = pack(videos(tmp_path / "set", "1", "2"), tmp_path / "out")
    assert code == 0, text
    assert "read as loose: 2 videos" in text
    assert Manifest.read(tmp_path / "out").frames == 8


@pytest.mark.parametrize("nested", [True, False])
def test_official_lists_belong_to_folders_of_frames_too(tmp_path: Path, nested: bool) -> None:
    names = [f"v_Run_g{group:02d}_c01" for group in (1, 2, 3)]
    root = videos(tmp_path / "frames", *(f"Run/{name}" if nested else name for name in names))
    lists = tmp_path / "lists"
    lists.mkdir()
    (lists / "classInd.txt").write_text("1 Run\n")
    (lists / "trainlist01.txt").write_text("".join(f"Run/{name}.avi 1\n" for name in names[:2]))
    (lists / "testlist01.txt").write_text(f"Run/{names[2]}.avi\n")
    found = read_dataset(root, lists)
    assert {video.key: (video.label, video.parts) for video in found.videos} == {
        names[0]: (0, {1: "train"}),
        names[1]: (0, {1: "train"}),
        names[2]: (0, {1: "test"}),
    }
    assert any("without their suffix" in note for note in found.notes)
    assert (found.missing, found.unlisted) == ((), ())


def test_jester(tmp_path: Path) -> None:
    root, lists = videos(tmp_path / "20bn-jester-v1", "1", "22", "3"), tmp_path / "lists"
    lists.mkdir()
    (lists / "jester-v1-train.csv").write_text("1;Left\n22;Right\n")
    (lists / "jester-v1-validation.csv").write_text("3;Left\n")
    code, text = pack(root, tmp_path / "out", "--splits", lists)
    assert code == 0, text
    manifest = Manifest.read(tmp_path / "out")
    assert (manifest.dataset, manifest.splits["1"].train, manifest.splits["1"].test) == ("jester", 2, 1)


def test_a_table_names_folders(tmp_path: Path) -> None:
    root = videos(tmp_path / "set", "a/1", "b")
    (root / "list.csv").write_text("path,label\na/1,run\nb/,jump\n")
    code, text = pack(root / "list.csv", tmp_path / "out")
    assert code == 0, text
    assert Manifest.read(tmp_path / "out").frames == 8


def test_a_missing_or_damaged_frame_quarantines_the_video(tmp_path: Path) -> None:
    root = videos(tmp_path / "set", "run/1", "run/2", "run/3")
    (root / "run/1/frame000002.jpg").unlink()
    (root / "run/2/frame000004.jpg").write_bytes(frame(3)[:300])
    code, text = pack(root, tmp_path / "out")
    assert code == 3, text
    reasons = {video.video: video.reason for video in Manifest.read(tmp_path / "out").quarantined}
    assert reasons["run/1/"] == "is damaged: frame 2 is missing, the next one is frame000003.jpg"
    assert reasons["run/2/"].startswith("is damaged: frame000004.jpg")


def test_the_longest_sound_run_can_be_salvaged(tmp_path: Path) -> None:
    root = videos(tmp_path / "set", "run/1", "run/2", "run/3", frames=9)
    (root / "run/1/frame000003.jpg").unlink()
    (root / "run/2/frame000008.jpg").write_bytes(b"")
    code, text = pack(root, tmp_path / "out", "--salvage", "--salvage-frames=6")
    assert code == 0, text
    index = ShardIndex.open(tmp_path / "out")
    found = {index.key(sample): read_jpegs(index, sample, range(index.frame_count(sample))) for sample in range(3)}
    assert found == {
        "run__1": [frame(number) for number in range(3, 9)],
        "run__2": [frame(number) for number in range(7)],
        "run__3": [frame(number) for number in range(9)],
    }
    told = {remark.video: remark.told for remark in index.manifest.remarks}
    assert told["run/1/"].endswith("frame 3 is missing, the next one is frame000004.jpg: frames 3 to 8 of 9 are kept")
    assert told["run/2/"].endswith("frame000008.jpg is empty: frames 0 to 6 of 9 are kept")


def test_pictures_beside_videos_are_no_video(tmp_path: Path, synthetic_videos) -> None:
    clip = next(iter(sorted(synthetic_videos.videos.glob("*/*.avi"))))
    root = videos(tmp_path / "set", "run")
    shutil.copy(clip, root / "run/1.avi")
    found = read_dataset(root)
    assert [video.relative for video in found.videos] == ["run/1.avi"]
    assert found.other_files == {".jpg": 4}


def test_by_url(tmp_path: Path) -> None:
    local = videos(tmp_path / "set", "run/1", "run/2")
    fsspec.filesystem("memory").put(str(local), "/frame-folders", recursive=True)
    here, there = read_dataset(local), read_dataset("memory://frame-folders")
    assert [(video.relative, video.key) for video in there.videos] == [(v.relative, v.key) for v in here.videos]
    assert there.videos[0].path == "memory://frame-folders/run/1/"


def test_flow_beside_the_frames_is_counted(tmp_path: Path) -> None:
    root = videos(tmp_path / "set", "run/1", "run/2")
    (root / "run/1/flow_x_00001.jpg").write_bytes(frame(1))
    (root / "run/2/deep").mkdir()
    for number in (1, 2):
        (root / f"run/2/deep/{number}.jpg").write_bytes(frame(1))
    found = read_dataset(root)
    assert len(found.videos) == 2
    assert json.dumps(found.other_files) == '{".jpg": 3}'
