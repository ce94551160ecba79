from pathlib import Path

import fsspec
import pytest

from pclkd.sharding import InputError
from pclkd.sharding.datasets.class_folders import match_lists
from pclkd.sharding.datasets.dataset import Dataset, Part

CLASSES = ("Archery", "HandstandPushups")


def read(root: Path, *listed: str) -> Dataset:
    train: dict[int, Part] = {1: "train"}
    return match_lists("ucf101", root, CLASSES, (1,), dict.fromkeys(listed, train), lambda name, stem: len(name + stem))


def touch(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"x")
    return root


def test_class_comes_from_the_folder(tmp_path: Path) -> None:
    name = "HandstandPushups/v_HandStandPushups_g01_c01.avi"
    (video,) = read(touch(tmp_path, name), name).videos
    assert (video.label, video.key) == (1, "v_HandStandPushups_g01_c01")
    assert video.group == len("HandstandPushupsv_HandStandPushups_g01_c01")
    assert video.parts == {1: "train"}


def test_names_match_without_regard_to_case_but_exactly_first(tmp_path: Path) -> None:
    root = touch(tmp_path, "HandStandPushups/V_a_g01_c01.AVI", "Archery/v_b_g01_c01.avi", "Archery/V_C_g01_c01.avi")
    found = read(root, "HandstandPushups/v_A_g01_c01.avi", "Archery/v_b_g01_c01.avi")
    assert found.missing == ()
    assert found.unlisted == ("Archery/V_C_g01_c01.avi",)
    assert {video.relative: video.label for video in found.videos} == {
        "HandStandPushups/V_a_g01_c01.AVI": 1,
        "Archery/v_b_g01_c01.avi": 0,
        "Archery/V_C_g01_c01.avi": 0,
    }


def test_names_match_without_the_suffix_last(tmp_path: Path) -> None:
    root = touch(tmp_path, "archery/V_A.mp4", "Archery/b.avi", "Archery/c.mkv")
    found = read(root, "Archery/v_a.avi", "Archery/b.avi", "Archery/gone.avi")
    assert {video.relative: video.parts for video in found.videos} == {
        "archery/V_A.mp4": {1: "train"},
        "Archery/b.avi": {1: "train"},
        "Archery/c.mkv": {},
    }
    assert (found.missing, found.unlisted) == (("Archery/gone.avi",), ("Archery/c.mkv",))
    assert found.notes == (
        "1 videos are matched to the lists without their suffix, such as archery/V_A.mp4 for Archery/v_a.avi",
    )


def test_without_class_folders_the_lists_tell_the_class(tmp_path: Path) -> None:
    root = touch(tmp_path, "a.avi", "B.mp4", "c.avi", "notes.txt")
    found = read(root, "Archery/a.avi", "HandstandPushups/b.avi")
    assert {video.relative: (video.label, video.key) for video in found.videos} == {
        "a.avi": (0, "a"),
        "B.mp4": (1, "B"),
    }
    assert found.unlisted == ("c.avi",)


def test_what_else_lies_in_class_folders_is_counted(tmp_path: Path) -> None:
    root = touch(tmp_path, "Archery/a.avi", "Archery/b.zip", "archery/deep/c.AVI", "Elsewhere/d.zip", "readme.md")
    assert read(root, "Archery/a.avi").other_files == {".avi": 1, ".zip": 1}


def test_a_file_answers_to_one_listed_name_only(tmp_path: Path) -> None:
    listed: dict[str, dict[int, Part]] = {"Archery/v.avi": {1: "train"}, "Archery/V.avi": {1: "test"}}
    for name in ("Archery/v.avi", "archery/v.AVI"):
        root = touch(tmp_path / name[:1], name)
        found = match_lists("ucf101", root, CLASSES, (1,), listed, lambda *_: -1)
        assert [video.parts for video in found.videos] == [{1: "train"}]
        assert found.missing == ("Archery/V.avi",)


def test_missing_and_unlisted_are_told_apart(tmp_path: Path) -> None:
    root = touch(tmp_path, "Archery/here.avi", "Archery/extra.avi", "Elsewhere/other.avi", "stray.avi")
    found = read(root, "Archery/here.avi", "Archery/gone.avi")
    assert found.missing == ("Archery/gone.avi",)
    assert found.unlisted == ("Archery/extra.avi",)
    assert [video.relative for video in found.videos] == ["Archery/extra.avi", "Archery/here.avi"]


def test_leftovers_of_file_managers_and_other_files_are_no_videos(tmp_path: Path) -> None:
    root = touch(tmp_path, "Archery/._v.avi", "Archery/notes.txt", "Archery/v.avi")
    assert [video.key for video in read(root).videos] == ["v"]


@pytest.mark.parametrize(
    ("second", "told"),
    [
        ("HandstandPushups/v.avi", "the key 'v'"),
        ("Archery/v.mp4", "the key 'v'"),
        ("Archery/v.AVI", "the key 'v'"),
        ("Archery/V.avi", "a key but for case"),
    ],
)
def test_shared_keys_are_refused_and_both_named(tmp_path: Path, second: str, told: str) -> None:
    with pytest.raises(InputError, match=f"share {told}") as caught:
        read(touch(tmp_path, "Archery/v.avi", second))
    assert "Archery/v.avi" in str(caught.value)
    assert second in str(caught.value)


def test_names_that_only_look_alike_once_made_safe_keep_their_own_keys(tmp_path: Path) -> None:
    keys = [
        video.key for video in read(touch(tmp_path, "Archery/v a.avi", "Archery/v.a.avi", "Archery/v_a.avi")).videos
    ]
    assert keys[2] == "v_a"
    assert len(set(keys)) == 3
    assert all(key.startswith("v_a") for key in keys)


def test_long_names_are_cut(tmp_path: Path) -> None:
    keys = [video.key for video in read(touch(tmp_path, f"Archery/{'v' * 94}.avi", f"Archery/{'v' * 95}.avi")).videos]
    assert [len(key) for key in keys] == [93, 93]
    assert keys[0] != keys[1]


def test_wrong_folders(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no folder of videos"):
        read(tmp_path / "nowhere")
    with pytest.raises(InputError, match="no folder named after a class"):
        read(tmp_path)
    (tmp_path / "UCF-101" / "Archery").mkdir(parents=True)
    with pytest.raises(InputError, match=r"give .*UCF-101"):
        read(tmp_path)
    with pytest.raises(InputError, match="no video file in the 1 class folders"):
        read(tmp_path / "UCF-101")
    with pytest.raises(InputError, match=r"no video file in the 1 class folders of .*UCF-101, but 2 \.rar"):
        read(touch(tmp_path / "UCF-101", "Archery/1.rar", "Archery/2.rar"))


def test_folder_in_a_folder_of_its_name_is_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"move the videos up from folders such as Archery/Archery"):
        read(touch(tmp_path, "Archery/Archery/v.avi"))


def test_classes_that_differ_only_in_case(tmp_path: Path) -> None:
    touch(tmp_path, "run/1.avi", "Run/2.avi")
    with pytest.raises(InputError, match="the classes 'Run' and 'run' differ only in case"):
        match_lists("ucf101", tmp_path, ("Run", "jump", "run"), (1,), {}, lambda *_: -1)


def test_everything_by_url(tmp_path: Path) -> None:
    store = fsspec.filesystem("memory")
    for name in ("Archery/1.avi", "Archery/deep/2.avi", "Elsewhere/3.avi"):
        store.pipe(f"/class-folders/{name}", b"x")
    found = match_lists("ucf101", "memory://class-folders", CLASSES, (1,), {"archery/1.AVI": {1: "test"}}, lambda *_: 7)
    assert found.source == "class-folders"
    assert [(v.path, v.label, v.group, v.parts) for v in found.videos] == [
        ("memory://class-folders/Archery/1.avi", 0, 7, {1: "test"})
    ]
    with pytest.raises(InputError, match="no folder named after a class"):
        match_lists("ucf101", "memory://class-folders", ("Fencing",), (1,), {}, lambda *_: 7)
