"""Files of every kind that people have on disk, through the command line."""

import json
import shutil
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from click.testing import CliRunner

from pclkd.sharding import InputError, Manifest, ShardIndex, plan_packing
from pclkd.sharding.cli import main

FRAMES = 8
# Suffix -> FFmpeg's names of container, codec and pixel format.
CONTAINERS = {
    "mpg": ("mpeg", "mpeg1video", "yuv420p"),
    "MPEG": ("mpeg", "mpeg2video", "yuv420p"),
    "vob": ("vob", "mpeg2video", "yuv420p"),
    "m2v": ("mpeg2video", "mpeg2video", "yuv420p"),
    "ts": ("mpegts", "libx264", "yuv420p"),
    "M2TS": ("mpegts", "libx264", "yuv420p"),
    "M4V": ("mp4", "libx264", "yuv420p"),
    "wmv": ("asf", "wmv2", "yuv420p"),
    "ASF": ("asf", "msmpeg4", "yuv420p"),
    "flv": ("flv", "flv", "yuv420p"),
    "3gp": ("3gp", "mpeg4", "yuv420p"),
    "GIF": ("gif", "gif", "rgb8"),
    "ogv": ("ogg", "libvpx", "yuv420p"),
    "mxf": ("mxf", "mpeg2video", "yuv420p"),
    "nut": ("nut", "mpeg4", "yuv420p"),
    "y4m": ("yuv4mpegpipe", "wrapped_avframe", "yuv420p"),
    "ivf": ("ivf", "libvpx", "yuv420p"),
    "h264": ("h264", "libx264", "yuv420p"),
    "rm": ("rm", "rv10", "yuv420p"),
    "mjpeg": ("mjpeg", "mjpeg", "yuvj420p"),
}


def write(path: Path, container: str = "mp4", codec: str = "libx264", pixels: str = "yuv420p") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w", format=container) as file:
        stream = file.add_stream(codec, rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, pixels
        for number in range(FRAMES):
            grey = np.full((48, 64, 3), 30 * number, np.uint8)
            frame = av.VideoFrame.from_ndarray(grey).reformat(format=pixels)
            frame.pts, frame.time_base = number, Fraction(1, 25)
            file.mux(stream.encode(frame))
        file.mux(stream.encode())
    return path


def pack(*arguments: object) -> tuple[int, str]:
    done = CliRunner().invoke(main, ["pack", *map(str, arguments), "--size=32x32", "--workers=1"])
    return done.exit_code, done.output


def test_what_ffmpeg_decodes_is_packed_whatever_its_suffix_and_case(tmp_path: Path) -> None:
    for suffix, kind in CONTAINERS.items():
        write(tmp_path / f"videos/class/{suffix}-file.{suffix}", *kind)
    code, text = pack(tmp_path / "videos", tmp_path / "out")
    assert code == 0, text
    index = ShardIndex.open(tmp_path / "out")
    counts = {index.key(sample): index.frame_count(sample) for sample in range(len(index))}
    assert counts == {f"class__{suffix}-file": FRAMES for suffix in CONTAINERS}


def test_files_that_are_not_taken_are_counted_by_suffix(synthetic_videos, tmp_path: Path) -> None:
    videos = tmp_path / "videos"
    clip = next(iter(sorted(synthetic_videos.videos.glob("*/*.avi"))))
    for name in ("run/1.avi", "run/2.AVI"):
        (videos / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(clip, videos / name)
    for name in ("run/a.zip", "run/b.ZIP", "jump/c.part", "jump/README", "notes.txt", "run/.hidden.txt"):
        (videos / name).parent.mkdir(parents=True, exist_ok=True)
        (videos / name).write_bytes(b"x")
    code, text = pack(videos, tmp_path / "out")
    assert code == 0, text
    assert "not videos   2 .zip, 1 without a suffix, 1 .part\n" in text
    counts = {".zip": 2, "": 1, ".part": 1}
    assert Manifest.read(tmp_path / "out").other_files == counts
    told = json.loads(CliRunner().invoke(main, ["info", "--json", str(tmp_path / "out")]).stdout)
    assert told["other_files"] == counts
    assert "already complete" in pack(videos, tmp_path / "out")[1]
    (videos / "run/a.zip").unlink()
    assert "other files beside the videos" in pack(videos, tmp_path / "out")[1]


def test_a_set_without_other_files_tells_of_none(synthetic_shards: Path) -> None:
    assert "other_files" not in json.loads((synthetic_shards / "manifest.json").read_text())
    assert Manifest.read(synthetic_shards).other_files == {}


@pytest.fixture
def reencoded(synthetic_videos, tmp_path: Path) -> Path:
    """The rendered videos under the names of a copy that was re-encoded; the lists still say .avi."""
    for clip in synthetic_videos.videos.glob("*/*.avi"):
        copy = tmp_path / "videos" / clip.parent.name / f"{clip.stem}.mp4"
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.symlink_to(clip)
    return tmp_path / "videos"


def test_lists_that_name_another_suffix_tell_the_parts_all_the_same(synthetic_videos, reencoded: Path) -> None:
    there = plan_packing(reencoded, synthetic_videos.splits).dataset
    here = plan_packing(synthetic_videos.videos, synthetic_videos.splits).dataset
    assert [(video.key, video.label, video.group, video.parts) for video in there.videos] == [
        (video.key, video.label, video.group, video.parts) for video in here.videos
    ]
    assert (there.missing, there.unlisted) == ((), ())
    (note,) = [note for note in there.notes if "suffix" in note]
    assert note.startswith("16 videos are matched to the lists without their suffix, such as ")
    assert note.endswith(".avi")
    assert not any("suffix" in note for note in here.notes)


def test_a_split_without_a_part_is_refused_before_packing(synthetic_videos, reencoded: Path, tmp_path: Path) -> None:
    tested = {Path(line).stem for line in (synthetic_videos.splits / "testlist02.txt").read_text().split()}
    for clip in reencoded.glob("*/*.mp4"):
        if clip.stem in tested:
            clip.unlink()
    code, text = pack(reencoded, tmp_path / "out", "--splits", synthetic_videos.splits)
    assert code == 2
    assert "split 2 has no test video in" in text
    assert "4 listed videos are not there" in text
    assert not (tmp_path / "out").exists()
    arguments = ("--splits", synthetic_videos.splits, "--allow-empty-split", "--max-frames=2")
    assert pack(reencoded, tmp_path / "out", *arguments)[0] == 0
    assert Manifest.read(tmp_path / "out").splits["2"].test == 0


def test_where_nothing_tells_the_parts_an_empty_one_is_meant(tmp_path: Path) -> None:
    write(tmp_path / "run/1.mp4")
    assert plan_packing(tmp_path).dataset.parts(1) == {"train": 1, "test": 0}
    (tmp_path / "list.csv").write_text("path,label,split\nrun/1.mp4,run,train\n")
    with pytest.raises(InputError, match="split 1 has no test video"):
        plan_packing(tmp_path / "list.csv")
    assert plan_packing(tmp_path / "list.csv", allow_empty_split=True).dataset.parts(1)["test"] == 0
