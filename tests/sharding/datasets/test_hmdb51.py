from pathlib import Path

import pytest

from pclkd.sharding import InputError
from pclkd.sharding.datasets.hmdb51 import read_hmdb51
from pclkd.sharding.datasets.names import group_number

APRIL = "April_09_brush_hair_u_nm_np1_ba_goo_0.avi"
ODD = "#20_Rhythm_clap_u_nm_np1_fr_goo_0.avi"


def write(root: Path, **lists: str) -> tuple[Path, Path]:
    """Three videos of two classes, and their lists of two splits."""
    texts = {
        "brush_hair_test_split1": f"{APRIL} 1 \nbrush.avi 2 \n",
        "brush_hair_test_split2": f"{APRIL} 0 \nbrush.avi 1 \n",
        "clap_test_split1": f"{ODD} 1 \n",
        "clap_test_split2": f"{ODD} 2 \n",
    } | lists
    (root / "splits").mkdir()
    for name, text in texts.items():
        (root / "splits" / f"{name}.txt").write_text(text)
    for name in (f"brush_hair/{APRIL}", "brush_hair/brush.avi", f"clap/{ODD}"):
        (root / "videos" / name).parent.mkdir(parents=True, exist_ok=True)
        (root / "videos" / name).touch()
    return root / "videos", root / "splits"


def test_classes_parts_groups_and_keys(tmp_path: Path) -> None:
    found = read_hmdb51(*write(tmp_path))
    assert (found.kind, found.source, found.numbers) == ("hmdb51", "videos", (1, 2))
    assert found.classes == ("brush_hair", "clap")
    april, brush, odd = found.videos
    assert [video.relative for video in found.videos] == [f"brush_hair/{APRIL}", "brush_hair/brush.avi", f"clap/{ODD}"]
    assert [video.label for video in found.videos] == [0, 0, 1]
    assert [video.parts for video in found.videos] == [{1: "train"}, {1: "test", 2: "train"}, {1: "train", 2: "test"}]
    assert april.key == APRIL.removesuffix(".avi")
    assert odd.key.startswith("_20_Rhythm_clap_u_nm_np1_fr_goo_0-")
    assert [april.group, brush.group, odd.group] == [group_number("April_09"), -1, group_number("#20_Rhythm")]
    assert found.missing == found.unlisted == ()


def test_one_film_is_one_group_whatever_the_action(tmp_path: Path) -> None:
    videos, splits = write(tmp_path, kick_test_split1="", kick_test_split2="")
    (videos / "kick").mkdir()
    for name in ("kick/April_09_kick_f_cm_np1_ba_med_19.avi", "clap/April_09_CLAP_f_cm_np1_ba_med_1.avi"):
        (videos / name).touch()
    groups = [(video.label, video.group) for video in read_hmdb51(videos, splits).videos if "April" in video.key]
    assert groups == [(label, group_number("April_09")) for label in (0, 1, 2)]


def test_unused_is_listed_and_the_rest_is_told(tmp_path: Path) -> None:
    videos, splits = write(tmp_path, brush_hair_test_split1=f"{APRIL} 0\nbrush.avi 2\ngone.avi 1\n")
    (videos / "clap/extra.avi").touch()
    found = read_hmdb51(videos, splits)
    assert found.videos[0].parts == {}
    assert found.missing == ("brush_hair/gone.avi",)
    assert found.unlisted == ("clap/extra.avi",)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("clap.avi 3\n", "clap_test_split1.txt:1: 'clap.avi 3' is not 'video.avi 0', 1 or 2"),
        ("\nclap.avi\n", "clap_test_split1.txt:2: 'clap.avi'"),
        ("1\n", "clap_test_split1.txt:1: '1'"),
        ("clap/clap.avi 1\n", "clap_test_split1.txt:1"),
        ("clap.avi 1\nclap.avi 2\n", "clap_test_split1.txt:2: clap.avi stands in"),
    ],
)
def test_wrong_line_is_told_with_its_place(tmp_path: Path, text: str, told: str) -> None:
    with pytest.raises(InputError) as caught:
        read_hmdb51(*write(tmp_path, clap_test_split1=text))
    assert told in str(caught.value)


def test_a_class_without_one_of_the_splits(tmp_path: Path) -> None:
    videos, splits = write(tmp_path)
    (splits / "clap_test_split2.txt").unlink()
    with pytest.raises(InputError, match=r"class 'clap' has no list .*clap_test_split2\.txt"):
        read_hmdb51(videos, splits)


def test_wrong_folders(tmp_path: Path) -> None:
    videos, splits = write(tmp_path)
    with pytest.raises(InputError, match="no lists such as brush_hair_test_split1"):
        read_hmdb51(videos, videos)
    with pytest.raises(InputError, match="no folder named after a class"):
        read_hmdb51(splits, splits)
    with pytest.raises(InputError, match=f"give {videos}"):
        read_hmdb51(tmp_path, splits)
