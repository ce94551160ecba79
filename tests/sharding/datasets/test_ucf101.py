from pathlib import Path

import pytest

from pclkd.sharding import InputError
from pclkd.sharding.datasets.ucf101 import SplitLists

CLASSES = "1 Archery\n2 HandstandPushups\n"
TRAIN = "Archery/v_Archery_g02_c01.avi 1\nHandstandPushups/v_HandStandPushups_g02_c01.avi 2\n"
TEST = "Archery/v_Archery_g01_c01.avi\n"


def write(folder: Path, newline: str = "\n", **files: str) -> Path:
    folder.mkdir(exist_ok=True)
    texts = {"classInd": CLASSES, "trainlist01": TRAIN, "testlist01": TEST} | files
    for name, text in texts.items():
        (folder / f"{name}.txt").write_bytes(text.replace("\n", newline).encode())
    return folder


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_lists_read_the_same_with_either_line_end(tmp_path: Path, newline: str) -> None:
    lists = SplitLists.read(write(tmp_path / "lists", newline))
    assert lists.classes == ("Archery", "HandstandPushups")
    assert lists.numbers == (1,)
    assert lists.listed == {
        "Archery/v_Archery_g01_c01.avi": {1: "test"},
        "Archery/v_Archery_g02_c01.avi": {1: "train"},
        "HandstandPushups/v_HandStandPushups_g02_c01.avi": {1: "train"},
    }


def test_byte_order_mark_and_blank_lines_are_harmless(tmp_path: Path) -> None:
    lists = SplitLists.read(write(tmp_path / "lists", classInd="\ufeff" + CLASSES + "\n\n"))
    assert lists.classes == ("Archery", "HandstandPushups")


def test_file_names_may_hold_blanks(tmp_path: Path) -> None:
    lists = SplitLists.read(write(tmp_path / "lists", testlist01="Archery/v a 7.avi\n"))
    assert lists.listed["Archery/v a 7.avi"] == {1: "test"}


@pytest.mark.real_videos
def test_official_lists_have_the_published_sizes(ucf101_sample) -> None:
    lists = SplitLists.read(ucf101_sample.splits)
    assert len(lists.classes) == 101
    assert len(lists.listed) == 13320
    counts = {
        (number, part): sum(parts.get(number) == part for parts in lists.listed.values())
        for number in (1, 2, 3)
        for part in ("train", "test")
    }
    assert counts == {
        (1, "train"): 9537,
        (1, "test"): 3783,
        (2, "train"): 9586,
        (2, "test"): 3734,
        (3, "train"): 9624,
        (3, "test"): 3696,
    }


@pytest.mark.parametrize(
    ("files", "told"),
    [
        ({"trainlist01": "Archery/v.avi\n"}, "trainlist01.txt:1"),
        ({"trainlist01": "v.avi 1\n"}, "trainlist01.txt:1"),
        ({"trainlist01": TRAIN + "Fencing/v.avi 3\n"}, "trainlist01.txt:3: unknown class 'Fencing'"),
        ({"testlist01": "Fencing/v.avi\n"}, "testlist01.txt:1: unknown class 'Fencing'"),
        ({"trainlist01": "Archery/v.avi 2\n"}, "label 2 but class 'Archery' is number 1"),
        ({"testlist01": "Archery/v_Archery_g02_c01.avi\n"}, "both parts of split 1"),
        ({"classInd": "Archery\n"}, "classInd.txt:1"),
        ({"classInd": "1 Archery\n1 Fencing\n"}, "classInd.txt:2"),
        ({"classInd": "1 Archery\n3 Fencing\n"}, "not 1 to 2"),
        ({"classInd": ""}, "classInd.txt"),
    ],
)
def test_wrong_line_is_told_with_its_place(tmp_path: Path, files: dict[str, str], told: str) -> None:
    folder = write(tmp_path / "lists", **files)
    with pytest.raises(InputError) as caught:
        SplitLists.read(folder)
    assert told in str(caught.value)
    assert caught.value.remedy


@pytest.mark.parametrize("absent", ["classInd", "trainlist01", "testlist01"])
def test_absent_list_is_named(tmp_path: Path, absent: str) -> None:
    folder = write(tmp_path / "lists")
    (folder / f"{absent}.txt").unlink()
    with pytest.raises(InputError, match=f"{absent}.txt"):
        SplitLists.read(folder)


def test_wrong_folder(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="nowhere"):
        SplitLists.read(tmp_path / "nowhere")
    (tmp_path / "classInd.txt").write_text(CLASSES)
    with pytest.raises(InputError, match="no trainlist"):
        SplitLists.read(tmp_path)


def test_list_that_is_no_text(tmp_path: Path) -> None:
    folder = write(tmp_path / "lists")
    (folder / "testlist01.txt").write_bytes(b"\xff\xfe\x00\x01")
    with pytest.raises(InputError, match=r"testlist01\.txt is not a text file"):
        SplitLists.read(folder)
