import os
from pathlib import Path

import fsspec
import pytest

from pclkd.sharding import InputError
from pclkd.sharding.datasets.video_files import FoundVideo, count_suffixes, find_videos, told_suffixes


def touch(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"x")
    return root


def names(root: Path | str) -> list[str]:
    return [video.name for video in find_videos(root).videos]


def test_every_suffix_in_any_case(tmp_path: Path) -> None:
    wanted = ["a/1.avi", "a/2.MP4", "a/3.Mkv", "a/4.WEBM", "a/5.MPG", "b/c/6.mov"]
    others = ["a/7.avi.txt", "a/8.avi.part", "a/avi"]
    touch(tmp_path, *wanted, *others, ".a/9.txt")
    assert names(tmp_path) == wanted
    assert find_videos(tmp_path).others == tuple(others)
    assert find_videos(tmp_path).videos[0] == FoundVideo("a/1.avi", str(tmp_path / "a/1.avi"))
    assert names(f"file://{tmp_path}") == wanted


def test_hidden_files_and_folders_are_passed_over(tmp_path: Path) -> None:
    assert names(touch(tmp_path, ".trash/1.avi", "a/._1.avi", "a/.b/2.avi", "a/3.avi")) == ["a/3.avi"]


def test_a_name_is_folders_and_stem() -> None:
    video = FoundVideo("a/b/v.1.avi", "/data/a/b/v.1.avi")
    assert (video.folders, video.stem) == (("a", "b"), "v.1")
    assert FoundVideo("v.avi", "v.avi").folders == ()


def test_suffixes_are_counted_whatever_their_case() -> None:
    counts = count_suffixes(["a/1.txt", "a/2.TXT", "b/README", "b/3.tar.gz"])
    assert list(counts.items()) == [(".txt", 2), ("", 1), (".gz", 1)]
    assert told_suffixes(counts) == "2 .txt, 1 without a suffix, 1 .gz"
    assert told_suffixes({f".{number}": 2 for number in range(10)}, 1) == "2 .0, 18 of other kinds"


def test_what_is_only_named_like_a_video_is_listed_and_not_opened(tmp_path: Path) -> None:
    (tmp_path / "a" / "folder.avi").mkdir(parents=True)
    touch(tmp_path, "a/folder.avi/inside.avi", "a/locked.avi")
    (tmp_path / "a/locked.avi").chmod(0)
    os.mkfifo(tmp_path / "a/pipe.avi")
    (tmp_path / "a/broken.avi").symlink_to("gone.avi")
    (tmp_path / "a/self.avi").symlink_to("self.avi")
    assert names(tmp_path) == [f"a/{name}.avi" for name in ("broken", "folder", "locked", "pipe", "self")]


def test_links_to_files_and_folders_are_followed(tmp_path: Path) -> None:
    elsewhere = touch(tmp_path / "elsewhere", "1.avi")
    root = touch(tmp_path / "root", "a/2.avi")
    (root / "b").symlink_to(elsewhere)
    (root / "a/link.avi").symlink_to(elsewhere / "1.avi")
    assert names(root) == ["a/2.avi", "a/link.avi", "b/1.avi"]


@pytest.mark.parametrize("target", [".", "..", "../..", "loop", "../b/loop"])
def test_links_in_a_circle_end(tmp_path: Path, target: str) -> None:
    root = touch(tmp_path / "root", "a/1.avi", "b/2.avi")
    (root / "a/loop").symlink_to(target)
    (root / "b/loop").symlink_to("../a/loop")
    assert {"a/1.avi", "b/2.avi"} <= set(names(root))
    assert len(names(root)) <= 4


def test_many_folders_that_link_to_each_other_are_not_gone_through_in_every_order(tmp_path: Path) -> None:
    folders = [f"f{number:02d}" for number in range(12)]
    touch(tmp_path, *(f"{folder}/{folder}.avi" for folder in folders))
    for folder in folders:
        for other in folders:
            (tmp_path / folder / f"to-{other}").symlink_to(f"../{other}")
    assert len(names(tmp_path)) == 12 * 12


def test_the_name_without_links_wins(tmp_path: Path) -> None:
    touch(tmp_path, "a/z/y/1.avi", "a/b/2.avi")
    (tmp_path / "a/b/link").symlink_to("../z/y")
    (tmp_path / "a/link").symlink_to("z")
    assert names(tmp_path) == ["a/b/2.avi", "a/z/y/1.avi"]


def test_names_that_are_no_text(tmp_path: Path) -> None:
    touch(tmp_path, "a/x")
    raw = os.fsencode(tmp_path) + b"/a/caf\xe9.avi"
    Path(os.fsdecode(raw)).write_bytes(b"x")
    (video,) = find_videos(tmp_path).videos
    assert os.fsencode(video.name) == b"a/caf\xe9.avi"
    assert os.fsencode(video.path) == raw


def test_urls(tmp_path: Path) -> None:
    store = fsspec.filesystem("memory")
    for name in ("a/1.avi", "a/b/2.MOV", "a/.b/3.avi", "a/notes.txt", "0.avi"):
        store.pipe(f"/listing/{name}", b"x")
    store.pipe("/listing-2/4.avi", b"x")
    found = find_videos("memory://listing")
    assert names("memory://listing/") == ["0.avi", "a/1.avi", "a/b/2.MOV"]
    assert found.others == ("a/notes.txt",)
    assert [video.path for video in found.videos][1] == "memory://listing/a/1.avi"
    with pytest.raises(InputError, match="no files at memory://nowhere"):
        find_videos("memory://nowhere")


def test_no_folder(tmp_path: Path) -> None:
    for place in (tmp_path / "nowhere", touch(tmp_path, "file") / "file"):
        with pytest.raises(InputError, match=f"no folder of videos at {place}"):
            find_videos(place)
