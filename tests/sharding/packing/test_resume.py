"""Packing again: what is finished stays if it is sound, the rest is made, and the bytes are those of a single run."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from pclkd.sharding import InputError, PackPart, ShardIndex, pack_part, pack_videos, plan_packing
from pclkd.sharding.packing.pack import PackReport

SMALL = {"height": 32, "width": 43, "quality": 50, "max_frames": 8}


class Stop(Exception):
    """Raised in the middle of a run."""


@pytest.fixture
def videos(synthetic_videos, tmp_path: Path) -> Path:
    """Copies that may be changed."""
    return Path(shutil.copytree(synthetic_videos.videos, tmp_path / "UCF-101"))


@pytest.fixture
def lists(synthetic_videos) -> Path:
    return Path(synthetic_videos.splits)


def contents(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def pack(videos: Path, lists: Path, out: Path, **options) -> PackReport:
    settings = {name: options.pop(name) for name in list(options) if name in SMALL}
    return pack_videos(plan_packing(videos, lists, **SMALL | settings), out, **{"workers": 1} | options)


def stopped(videos: Path, lists: Path, out: Path, after: int, **options) -> None:
    """Begin to pack, and stop when a new shard's first video is through after `after` shards."""

    def step(_name: str, _failed: bool = False, /) -> None:
        if len(list((out / ".pack").glob("shard-*.json"))) >= after:
            raise Stop

    with pytest.raises(Stop):
        pack(videos, lists, out, step=step, **options)


def test_what_is_finished_is_kept_and_the_end_is_the_same(videos: Path, lists: Path, tmp_path: Path) -> None:
    whole = pack(videos, lists, tmp_path / "whole")
    assert (whole.kept, whole.made, whole.complete) == (0, 4, False)
    out = tmp_path / "out"
    stopped(videos, lists, out, 2)
    assert sorted(path.name for path in (out / ".pack").iterdir()) == [
        "plan.json",
        *sorted(f"{path.stem}.json" for path in out.glob("*.tar")),
    ]
    plan = json.loads((out / ".pack" / "plan.json").read_text())
    assert sorted(video["relative"] for shard in plan["shards"] for video in shard["videos"]) == sorted(
        str(path.relative_to(videos)) for path in videos.glob("*/*.avi")
    )
    inodes = {path.name: path.stat().st_ino for path in out.glob("*.tar")}
    report = pack(videos, lists, out)
    assert (report.kept, report.made) == (2, 2)
    assert contents(out) == contents(tmp_path / "whole")
    assert all((out / name).stat().st_ino == inode for name, inode in inodes.items())


@pytest.mark.parametrize("damage", ["tar", "record", "no record", "idx", "video", "video of the same size"])
def test_what_was_finished_is_checked_not_trusted(videos: Path, lists: Path, tmp_path: Path, damage: str) -> None:
    out = tmp_path / "out"
    stopped(videos, lists, out, 2)
    tar = min(out.glob("*.tar"))
    record = out / ".pack" / f"{tar.stem}.json"
    about = json.loads(record.read_text())
    source = next(path for path in videos.glob("*/*.avi") if path.stem == about["packed"][0]["video"])
    if damage == "tar":
        data = bytearray(tar.read_bytes())
        data[1000] ^= 1
        tar.write_bytes(data)
    elif damage == "record":
        text = record.read_text()
        record.write_text(text.replace('"crc32": ', '"crc32": 1'))
    elif damage == "no record":
        record.unlink()
    elif damage == "idx":
        tar.with_suffix(".idx").write_text("v1.2 0\n")
    else:
        other = next(path for path in sorted(videos.glob("*/*.avi")) if path.parent != source.parent)
        data = other.read_bytes() if damage == "video" else source.read_bytes()[:-1] + b"x"
        source.write_bytes(data)
    report = pack(videos, lists, out)
    assert (report.kept, report.made) == ((2, 2) if damage == "idx" else (1, 3))
    pack(videos, lists, tmp_path / "whole")
    assert contents(out) == contents(tmp_path / "whole")


def test_a_video_that_was_only_touched_does_not_count_as_changed(videos: Path, lists: Path, tmp_path: Path) -> None:
    stopped(videos, lists, tmp_path / "out", 2)
    for path in videos.glob("*/*.avi"):
        os.utime(path, (1, 1))
    assert pack(videos, lists, tmp_path / "out").kept == 2
    pack(videos, lists, tmp_path / "whole")
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


def test_other_settings_make_the_finished_shards_of_an_unfinished_set_again(videos: Path, lists, tmp_path) -> None:
    stopped(videos, lists, tmp_path / "out", 2)
    report = pack(videos, lists, tmp_path / "out", quality=60)
    assert (report.kept, report.made) == (0, 4)
    pack(videos, lists, tmp_path / "whole", quality=60)
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


def test_a_finished_set_is_complete_and_stays_as_it_is(videos: Path, lists: Path, tmp_path: Path) -> None:
    (videos / "Rotate" / "v_Rotate_g09_c01.avi").write_text("no video")
    out = tmp_path / "out"
    first = pack(videos, lists, out)
    before = {path: (path.stat().st_ino, path.read_bytes()) for path in out.glob("*.tar")}
    steps: list[str] = []
    again = pack(videos, lists, out, step=lambda name, _=False, /: steps.append(name))
    assert again.complete
    assert (again.kept, again.made) == (4, 0)
    assert again.manifest == first.manifest
    assert {path: (path.stat().st_ino, path.read_bytes()) for path in out.glob("*.tar")} == before
    assert len(steps) == 17
    assert not (out / ".pack").exists()


def test_a_finished_set_that_would_change_is_refused_and_with_overwrite_mended(videos, lists, tmp_path) -> None:
    out = tmp_path / "out"
    pack(videos, lists, out)
    whole = contents(out)
    tar = max(out.glob("*.tar"))
    tar.write_bytes(tar.read_bytes()[:-100])
    damaged = contents(out)
    with pytest.raises(InputError, match="1 of the 4 shards would change"):
        pack(videos, lists, out)
    assert contents(out) == damaged
    report = pack(videos, lists, out, overwrite=True)
    assert (report.kept, report.made, report.complete) == (3, 1, False)
    assert contents(out) == whole
    column = out / "index" / "frame_crc32.npy"
    column.write_bytes(column.read_bytes()[:-1] + b"x")
    with pytest.raises(InputError, match=r"frame_crc32.*overwrite"):
        pack(videos, lists, out)
    pack(videos, lists, out, overwrite=True)
    assert contents(out) == whole
    with pytest.raises(InputError, match=r"other settings \(quality 50, not 60\)"):
        pack(videos, lists, out, quality=60)
    assert contents(out) == whole


def test_other_lists_keep_the_shards(videos: Path, lists: Path, tmp_path: Path) -> None:
    out, other = tmp_path / "out", tmp_path / "lists"
    pack(videos, lists, out)
    shutil.copytree(lists, other)
    for part in ("train", "test"):
        (other / f"{part}list03.txt").unlink()
    with pytest.raises(InputError, match="with other lists"):
        pack(videos, other, out)
    report = pack(videos, other, out, overwrite=True)
    assert (report.kept, report.made) == (4, 0)
    assert list(report.manifest.splits) == ["1", "2"]
    pack(videos, other, tmp_path / "whole")
    assert contents(out) == contents(tmp_path / "whole")


def test_added_videos_change_the_shards_they_fall_into_and_no_other(videos: Path, lists: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    pack(videos, lists, out)
    before = contents(out)
    for number in (1, 2):
        shutil.copy(videos / "Zoom" / f"v_Zoom_g0{number}_c01.avi", videos / "Zoom" / f"v_Zoom_g1{number}_c01.avi")
    with pytest.raises(InputError, match=r"of the 4 shards would change: videos were added"):
        pack(videos, lists, out)
    assert contents(out) == before
    report = pack(videos, lists, out, overwrite=True)
    assert report.kept >= 2
    assert report.kept + report.made == 4
    assert len(ShardIndex.open(out)) == 18
    pack(videos, lists, tmp_path / "whole")
    assert contents(out) == contents(tmp_path / "whole")


def test_an_interrupted_change_of_a_finished_set_goes_on(videos: Path, lists: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    pack(videos, lists, out)
    shutil.copy(videos / "Zoom" / "v_Zoom_g01_c01.avi", videos / "Zoom" / "v_Zoom_g11_c01.avi")

    def step(name: str, _failed: bool = False, /) -> None:
        if not (out / "manifest.json").exists():
            raise Stop

    before = contents(out)
    with pytest.raises(Stop):
        pack(videos, lists, out, overwrite=True, step=step)
    assert contents(out) == before
    report = pack(videos, lists, out, overwrite=True)
    assert (report.kept, report.made) == (3, 1)
    pack(videos, lists, tmp_path / "whole")
    assert contents(out) == contents(tmp_path / "whole")


def test_videos_that_go_away_stop_the_run_and_its_shards_are_kept(videos: Path, lists: Path, tmp_path: Path) -> None:
    out, away = tmp_path / "out", videos.with_name("away")

    def step(_name: str, _failed: bool = False, /) -> None:
        if videos.exists() and list(out.glob("*.tar")):
            videos.rename(away)

    with pytest.raises(InputError, match=r"UCF-101/.*\.avi went away while it was packed - bring it back"):
        pack(videos, lists, out, step=step)
    away.rename(videos)
    report = pack(videos, lists, out)
    assert (report.kept >= 1, report.kept + report.made, report.quarantined) == (True, 4, ())
    pack(videos, lists, tmp_path / "whole")
    assert contents(out) == contents(tmp_path / "whole")


# Packs with --overwrite, with a limit on file sizes, and is killed at the first video behind so many new shards.
REPLACE = """
import os, resource, signal, sys
from pathlib import Path
from pclkd.sharding import pack_videos, plan_packing
from pclkd.sharding.packing.output import recorded_shards
videos, lists, out, most_bytes, after = sys.argv[1:]

def step(_name, _failed=False, /):
    if not (Path(out) / "manifest.json").exists() and len(recorded_shards(out)) >= int(after):
        os.kill(os.getpid(), signal.SIGKILL)

resource.setrlimit(resource.RLIMIT_FSIZE, (int(most_bytes), int(most_bytes)))
plan = plan_packing(videos, lists, height=32, width=43, quality=50, max_frames=8)
pack_videos(plan, out, workers=1, overwrite=True, step=step)
"""


def replaced(videos: Path, lists: Path, out: Path, most_bytes: int = -1, after: int = 1000) -> int:
    arguments = map(str, (videos, lists, out, most_bytes, after))
    return subprocess.run([sys.executable, "-c", REPLACE, *arguments], stderr=subprocess.DEVNULL).returncode


def grow(videos: Path) -> None:
    """Twice as many videos: twice as many shards, and each of them is another."""
    for path in sorted(videos.glob("*/*.avi")):
        shutil.copy(path, path.with_name(path.name.replace("_c01", "_c02")))


@pytest.mark.parametrize("grown", [False, True])
def test_a_set_stays_where_there_is_no_room_for_the_one_that_is_to_replace_it(videos, lists, tmp_path, grown) -> None:
    out = tmp_path / "out"
    pack(videos, lists, out)
    before = contents(out)
    if grown:
        grow(videos)
    smallest = min(path.stat().st_size for path in out.glob("*.tar"))
    assert replaced(videos, lists, out, most_bytes=smallest // 2 if grown else 1024) == 1
    assert contents(out) == before
    assert not (out / ".pack").exists()
    assert replaced(videos, lists, out) == 0


@pytest.mark.parametrize("after", [0, 3])
def test_a_change_that_is_killed_decodes_nothing_again(videos: Path, lists: Path, tmp_path: Path, after: int) -> None:
    out = tmp_path / "out"
    pack(videos, lists, out)
    grow(videos)
    assert replaced(videos, lists, out, after=after) == -signal.SIGKILL
    records = [json.loads(path.read_text()) for path in (out / ".pack").glob("shard-*.json")]
    copied = sum(video["video"].endswith("_c01") for record in records for video in record["packed"])
    report = pack(videos, lists, out)
    assert (report.kept, report.taken_over) == (len(records), 16 - copied)
    assert len(records) >= after
    pack(videos, lists, tmp_path / "whole")
    assert contents(out) == contents(tmp_path / "whole")


def test_a_set_comes_back_where_none_of_its_videos_can_be_decoded_any_more(videos, lists, tmp_path: Path) -> None:
    out = tmp_path / "out"
    pack(videos, lists, out)
    before = contents(out)
    for path in videos.glob("*/*.avi"):
        path.write_bytes(b"")
    with pytest.raises(InputError, match="none of the 16 videos"):
        pack(videos, lists, out, overwrite=True)
    assert contents(out) == before


def test_overwrite_gives_quarantined_videos_another_chance(videos: Path, lists: Path, tmp_path: Path) -> None:
    victim, out = videos / "Rotate" / "v_Rotate_g01_c01.avi", tmp_path / "out"
    sound = victim.read_bytes()
    victim.write_text("no video")
    assert len(pack(videos, lists, out).manifest.quarantined) == 1
    victim.write_bytes(sound)
    assert pack(videos, lists, out).complete
    report = pack(videos, lists, out, overwrite=True)
    assert (report.kept, report.made, report.manifest.quarantined) == (3, 1, ())
    pack(videos, lists, tmp_path / "whole")
    assert contents(out) == contents(tmp_path / "whole")


def test_shards_that_are_left_over_go_and_foreign_files_stay(videos: Path, lists: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    pack(videos, lists, out)
    (out / "mine.txt").write_text("keep me")
    (out / ".pack").mkdir()
    (out / ".pack" / "shard-000001.tar.1-abc.part").write_bytes(b"left by a killed run")
    for folder in ("Rotate", "Zoom"):
        shutil.rmtree(videos / folder)
    (videos / "TranslateHorizontal" / "v_TranslateHorizontal_g01_c01.avi").unlink()
    report = pack(videos, lists, out, overwrite=True)
    assert report.manifest.videos == 7
    assert len(list(out.glob("*.tar"))) == len(list(out.glob("*.idx"))) == 1
    assert (out / "mine.txt").read_text() == "keep me"
    assert not (out / ".pack").exists()


@pytest.mark.parametrize("part", [None, PackPart(1, 2)])
def test_shards_that_are_not_ours_are_refused_and_stay(videos: Path, lists: Path, tmp_path: Path, part) -> None:
    out = tmp_path / "out"
    (out / "index").mkdir(parents=True)
    for name in ("shard-000000.tar", "shard-000099.tar", "index/embeddings.npy"):
        (out / name).write_bytes(b"of another program")
    before = contents(out)
    plan = plan_packing(videos, lists, **SMALL)
    with pytest.raises(InputError, match=r"holds 2 files that are named as shards.*shard-000000\.tar - give another"):
        pack_part(plan, out, part, workers=1) if part else pack_videos(plan, out, workers=1)
    assert contents(out) == before
    for path in out.glob("*.tar"):
        path.unlink()
    for path in videos.glob("*/*.avi"):
        path.write_bytes(b"")
    with pytest.raises(InputError, match="none of the 16 videos"):
        pack(videos, lists, out)
    assert contents(out) == {"index/embeddings.npy": b"of another program"}
