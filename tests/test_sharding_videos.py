from pathlib import Path

import pytest

from pclkd.sharding import InputError
from pclkd.sharding.splits import Part, SplitLists
from pclkd.sharding.videos import take_inventory

CLASSES = ("Archery", "HandstandPushups")


def lists(*names: str) -> SplitLists:
    train: dict[int, Part] = {1: "train"}
    return SplitLists(CLASSES, (1,), dict.fromkeys(names, train))


def touch(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"x")
    return root


def test_class_comes_from_the_folder(tmp_path: Path) -> None:
    name = "HandstandPushups/v_HandStandPushups_g01_c01.avi"
    (video,) = take_inventory(touch(tmp_path, name), lists(name)).videos
    assert (video.label, video.group, video.key) == (1, 1, "v_HandStandPushups_g01_c01")
    assert video.parts == {1: "train"}


def test_names_match_without_regard_to_case_but_exactly_first(tmp_path: Path) -> None:
    root = touch(tmp_path, "HandStandPushups/V_a_g01_c01.AVI", "Archery/v_b_g01_c01.avi", "Archery/V_B_g01_c01.avi")
    inventory = take_inventory(root, lists("HandstandPushups/v_A_g01_c01.avi", "Archery/v_b_g01_c01.avi"))
    assert inventory.missing == ()
    assert inventory.unlisted == ("Archery/V_B_g01_c01.avi",)
    assert {video.relative: video.label for video in inventory.videos} == {
        "HandStandPushups/V_a_g01_c01.AVI": 1,
        "Archery/v_b_g01_c01.avi": 0,
        "Archery/V_B_g01_c01.avi": 0,
    }


def test_missing_and_unlisted_are_told_apart(tmp_path: Path) -> None:
    root = touch(tmp_path, "Archery/here.avi", "Archery/extra.avi", "Elsewhere/other.avi", "stray.avi")
    inventory = take_inventory(root, lists("Archery/here.avi", "Archery/gone.avi"))
    assert inventory.missing == ("Archery/gone.avi",)
    assert inventory.unlisted == ("Archery/extra.avi",)
    assert [video.relative for video in inventory.videos] == ["Archery/extra.avi", "Archery/here.avi"]


def test_leftovers_of_file_managers_and_other_files_are_no_videos(tmp_path: Path) -> None:
    root = touch(tmp_path, "Archery/._v.avi", "Archery/notes.txt", "Archery/v.avi")
    assert [video.key for video in take_inventory(root, lists()).videos] == ["v"]


def test_keys_hold_no_dots_or_blanks(tmp_path: Path) -> None:
    (video,) = take_inventory(touch(tmp_path, "Archery/v a.b é.avi"), lists()).videos
    assert video.key == "v_a_b__"
    assert video.group == -1


@pytest.mark.parametrize("second", ["HandstandPushups/v.avi", "Archery/v.mp4"])
def test_shared_keys_are_refused_and_both_named(tmp_path: Path, second: str) -> None:
    with pytest.raises(InputError, match="share the key 'v'") as caught:
        take_inventory(touch(tmp_path, "Archery/v.avi", second), lists())
    assert "Archery/v.avi" in str(caught.value)
    assert second in str(caught.value)


def test_too_long_a_name(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="more than 93 characters"):
        take_inventory(touch(tmp_path, f"Archery/{'v' * 94}.avi"), lists())


def test_wrong_folders(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no folder of videos"):
        take_inventory(tmp_path / "nowhere", lists())
    with pytest.raises(InputError, match="no folder named after a class"):
        take_inventory(tmp_path, lists())
    (tmp_path / "UCF-101" / "Archery").mkdir(parents=True)
    with pytest.raises(InputError, match=r"give .*UCF-101"):
        take_inventory(tmp_path, lists())
    with pytest.raises(InputError, match="no video file in the 1 class folders"):
        take_inventory(tmp_path / "UCF-101", lists())
