import json
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pclkd.sharding import InputError
from pclkd.sharding.datasets.folder import read_folder
from pclkd.sharding.datasets.names import group_number, path_key
from pclkd.sharding.datasets.video_files import FoundVideo, Listing


def touch(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def test_the_first_folder_is_the_class(tmp_path: Path) -> None:
    found = read_folder(touch(tmp_path / "set", "run/001.mp4", "jump/001.mp4", "jump/deep/er/001.MOV"))
    assert (found.kind, found.source, found.classes, found.numbers) == ("folder", "set", ("jump", "run"), (1,))
    assert [(video.relative, video.label, video.key) for video in found.videos] == [
        ("jump/001.mp4", 0, "jump__001"),
        ("jump/deep/er/001.MOV", 0, "jump__deep__er__001"),
        ("run/001.mp4", 1, "run__001"),
    ]
    assert all(video.parts == {1: "train"} for video in found.videos)
    assert any("--test-share" in note for note in found.notes)


def test_folders_below_the_class_and_numbers_in_names_are_groups(tmp_path: Path) -> None:
    names = ("jump/anna/1.avi", "run/anna/1.avi", "run/bob/1.avi", "run/v_run_g07_c02.avi", "run/x.avi")
    groups = [video.group for video in read_folder(touch(tmp_path, *names)).videos]
    assert groups == [group_number("anna"), group_number("anna"), group_number("bob"), 7, -1]


@pytest.mark.parametrize(
    ("folders", "numbers", "parts"),
    [
        (("train", "test"), (1,), [{1: "test"}, {1: "train"}]),
        (("Train", "Val"), (1,), [{1: "train"}, {1: "test"}]),
        (("train", "val", "test"), (1, 2), [{2: "test"}, {1: "train", 2: "train"}, {1: "test"}]),
    ],
)
def test_folders_of_parts(tmp_path: Path, folders: tuple[str, ...], numbers: tuple[int, ...], parts: list) -> None:
    found = read_folder(touch(tmp_path, *(f"{folder}/jump/1.avi" for folder in folders)))
    assert found.classes == ("jump",)
    assert found.numbers == numbers
    assert [video.parts for video in found.videos] == parts
    assert any("are parts of a split" in note for note in found.notes)
    with pytest.raises(InputError, match="parts of its own"):
        read_folder(tmp_path, 0.5)


@pytest.mark.parametrize("folders", [("bus", "train"), ("train",), ("test", "val")])
def test_a_class_may_be_named_train(tmp_path: Path, folders: tuple[str, ...]) -> None:
    found = read_folder(touch(tmp_path, *(f"{folder}/deep/{number}.avi" for number, folder in enumerate(folders))))
    assert found.classes == folders
    assert all(video.parts == {1: "train"} for video in found.videos)


def test_share_held_out(tmp_path: Path) -> None:
    found = read_folder(touch(tmp_path, *(f"{name}/{n}.avi" for name in ("jump", "run") for n in range(10))), 0.2)
    for label in (0, 1):
        assert sorted(video.parts[1] for video in found.videos if video.label == label) == ["test"] * 2 + ["train"] * 8


def test_videos_outside_of_class_folders_are_told(tmp_path: Path) -> None:
    found = read_folder(touch(tmp_path, "jump/1.avi", "stray.avi"))
    assert found.unlisted == ("stray.avi",)
    assert any("1 videos outside of class folders are left out" in note for note in found.notes)


def test_the_folder_above_is_pointed_out(tmp_path: Path) -> None:
    found = read_folder(touch(tmp_path, "set/jump/1.avi", "set/run/1.avi"))
    assert (
        found.notes[-1] == f"all videos are of one class; give {tmp_path}/set if it is the folder of the class folders"
    )
    assert len(read_folder(tmp_path / "set").notes) == 1


def test_nothing_to_pack(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no video in a class folder"):
        read_folder(tmp_path)
    with pytest.raises(InputError, match=r"only stray\.avi beside them") as caught:
        read_folder(touch(tmp_path, "stray.avi"))
    assert "path,label" in caught.value.remedy
    with pytest.raises(InputError, match=r"no video in a class folder of .*, only 1 \.zip"):
        read_folder(touch(tmp_path / "packed", "jump/1.zip"))


@pytest.mark.parametrize(
    ("one", "two"),
    [
        ("jump/1.avi", "jump/1.mp4"),
        ("jump/a.avi", "jump/A.avi"),
        ("jump/a__b.avi", "jump/a/b.avi"),
        ("a/b.avi", "A/b.avi"),
    ],
)
def test_shared_keys_are_refused_and_both_named(tmp_path: Path, one: str, two: str) -> None:
    with pytest.raises(InputError, match="would share") as caught:
        read_folder(touch(tmp_path, one, two))
    assert one in caught.value.problem
    assert two in caught.value.problem


def test_names_that_are_no_text_become_printable_classes(tmp_path: Path) -> None:
    touch(tmp_path, "caf\udce9/a\nb.avi", "x\\y/1.avi")
    found = read_folder(tmp_path)
    assert found.classes == (r"caf\xe9", r"x\\y")
    assert [video.relative for video in found.videos] == [r"caf\xe9/a\x0ab.avi", r"x\\y/1.avi"]
    assert all(video.key.isascii() for video in found.videos)


PATHS = st.lists(st.text("aA_. é\udce9", min_size=1, max_size=3), min_size=2, max_size=4).map("/".join)


@given(st.sets(PATHS, min_size=1, max_size=12))
def test_any_set_of_names_has_unique_keys_or_is_refused_with_two_names_that_share_one(paths: set[str]) -> None:
    names = sorted(f"{path}.avi" for path in paths)
    keys = [path_key(name).lower() for name in names]
    found = Listing(tuple(FoundVideo(name, f"/videos/{name}") for name in names))
    if len(set(keys)) == len(keys):
        videos = read_folder("/videos", listing=found).videos
        assert [video.path for video in videos] == [video.path for video in found.videos]
        assert len({video.relative for video in videos}) == len({video.key.lower() for video in videos}) == len(names)
        assert all(re.fullmatch(r"[A-Za-z0-9_-]{1,93}", video.key) for video in videos)
        json.dumps([video.relative for video in videos], ensure_ascii=False).encode()
    else:
        with pytest.raises(InputError, match="would share"):
            read_folder("/videos", listing=found)
