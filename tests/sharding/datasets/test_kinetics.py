from pathlib import Path

import pytest

from pclkd.sharding import InputError
from pclkd.sharding.datasets.kinetics import read_kinetics
from pclkd.sharding.datasets.names import group_number

HEADER = "label,youtube_id,time_start,time_end,split"
TRAIN = f"{HEADER},is_cc\nriding a bike,---QUuC4vJs,84,94,train,0\nabseiling,-3B32lodo2M,0,10,train,1\n"
VAL = f"{HEADER}\nabseiling,0347ZoDXyP0,3600,3610,validate\n"


def write(root: Path, *videos: str, **tables: str) -> tuple[Path, Path]:
    for folder in ("clips", "tables"):
        (root / folder).mkdir()
    for name, text in ({"train": TRAIN, "val": VAL} | tables).items():
        (root / "tables" / f"{name}.csv").write_text(text)
    for name in videos or ("---QUuC4vJs_000084_000094.mp4", "abseiling/-3B32lodo2M_000000_000010.mkv"):
        (root / "clips" / name).parent.mkdir(parents=True, exist_ok=True)
        (root / "clips" / name).touch()
    return root / "clips", root / "tables"


def test_flat_and_in_folders(tmp_path: Path) -> None:
    found = read_kinetics(*write(tmp_path))
    assert (found.kind, found.source, found.numbers) == ("kinetics", "clips", (1,))
    assert found.classes == ("abseiling", "riding a bike")
    bike, abseiling = found.videos
    assert (bike.key, bike.label, bike.parts) == ("---QUuC4vJs_000084_000094", 1, {1: "train"})
    assert (abseiling.relative, abseiling.label) == ("abseiling/-3B32lodo2M_000000_000010.mkv", 0)
    assert bike.group == group_number("youtube ---QUuC4vJs") != abseiling.group
    assert found.missing == ("0347ZoDXyP0_003600_003610.mp4",)


def test_clips_of_one_video_are_a_group(tmp_path: Path) -> None:
    table = f"{HEADER}\na,abcdefghijk,0,10,train\nb,abcdefghijk,10.0,20,train\n"
    videos, _ = write(tmp_path, "abcdefghijk_000000_000010.mp4", "abcdefghijk_000010_000020.mp4", both=table)
    first, second = read_kinetics(videos, tmp_path / "tables/both.csv").videos
    assert first.group == second.group
    assert first.label != second.label


def test_val_and_test_are_two_splits(tmp_path: Path) -> None:
    names = ("---QUuC4vJs_000084_000094.mp4", "val/0347ZoDXyP0_003600_003610.mp4", "test/zzzzzzzzzzz_000001_000011.mp4")
    found = read_kinetics(*write(tmp_path, *names, test=f"{HEADER}\nabseiling,zzzzzzzzzzz,1,11,test\n"))
    assert found.numbers == (1, 2)
    assert {video.key[-6:]: video.parts for video in found.videos} == {
        "000094": {1: "train", 2: "train"},
        "003610": {1: "test"},
        "000011": {2: "test"},
    }
    assert "split 1 tests on val, split 2 on test" in found.notes


def test_part_of_the_table_where_rows_tell_none(tmp_path: Path) -> None:
    bare = "label,youtube_id,time_start,time_end\nabseiling,zzzzzzzzzzz,1,11\n"
    videos, tables = write(tmp_path, "zzzzzzzzzzz_000001_000011.mp4", kinetics_400_val=bare)
    assert read_kinetics(videos, tables / "kinetics_400_val.csv").videos[0].parts == {1: "test"}


def test_no_parts_at_all(tmp_path: Path) -> None:
    table = "label,youtube_id,time_start,time_end\n" + "".join(f"a,yt-{n},0,10\n" for n in range(10))
    videos, tables = write(tmp_path, *(f"yt-{n}_000000_000010.mp4" for n in range(10)), all=table)
    found = read_kinetics(videos, tables / "all.csv")
    assert {video.parts[1] for video in found.videos} == {"train"}
    assert any("nothing tells the parts" in note for note in found.notes)
    found = read_kinetics(videos, tables / "all.csv", 0.3)
    assert sorted(video.parts[1] for video in found.videos) == ["test"] * 3 + ["train"] * 7


def test_rows_without_a_label_and_clips_without_a_row_are_left_out(tmp_path: Path) -> None:
    videos, tables = write(tmp_path, hidden="label,youtube_id,time_start,time_end\n,zzzzzzzzzzz,1,11\n")
    (videos / "other.mp4").touch()
    (videos / "zzzzzzzzzzz_000001_000011.mp4").touch()
    found = read_kinetics(videos, tables)
    assert len(found.videos) == 2
    assert found.unlisted == ("other.mp4", "zzzzzzzzzzz_000001_000011.mp4")
    assert "1 rows without a label are left out" in found.notes


@pytest.mark.parametrize(
    ("row", "told"),
    [
        ("a,zzzzzzzzzzz,one,11,train", "bad.csv:2: time_start is 'one'"),
        ("a,zzzzzzzzzzz,1,11.5,train", "bad.csv:2: time_end is '11.5'"),
        ("a,zzzzzzzzzzz,-1,11,train", "bad.csv:2: time_start is '-1'"),
        ("a,zzzzzzzzzzz,1,1234567,train", "bad.csv:2: time_end is '1234567'"),
        ("a,zzzzzzzzzzz,1,11,trian", "bad.csv:2: unknown split 'trian'"),
        ("a,,1,11,train", "bad.csv:2: '' is no YouTube id"),
        ("a,zz/zz,1,11,train", "bad.csv:2: 'zz/zz' is no YouTube id"),
        ("a,zzzzzzzzzzz,1,11", "bad.csv:2: 'a,zzzzzzzzzzz,1,11' has 4 cells"),
        ("abseiling,---QUuC4vJs,84,94,train", "is 'riding a bike' in train here but 'abseiling' in train in"),
        ("riding a bike,---QUuC4vJs,84,94,val", "is 'riding a bike' in train here but 'riding a bike' in val in"),
    ],
)
def test_wrong_row_is_told_with_its_place(tmp_path: Path, row: str, told: str) -> None:
    with pytest.raises(InputError) as caught:
        read_kinetics(*write(tmp_path, bad=f"{HEADER}\n{row}\n"))
    assert told in str(caught.value)
    assert "bad.csv:2" in str(caught.value)


def test_other_tables_beside_them_are_passed_over(tmp_path: Path) -> None:
    videos, tables = write(tmp_path, labels="id,name\n0,abseiling\n")
    (tables / "readme.txt").touch()
    assert len(read_kinetics(videos, tables).videos) == 2


def test_wrong_tables_and_folders(tmp_path: Path) -> None:
    videos, tables = write(tmp_path, short="label,youtube_id,time_start,split\na,b,1,train\n", empty=f"{HEADER}\n")
    with pytest.raises(InputError, match=r"short\.csv has no column 'time_end'"):
        read_kinetics(videos, tables / "short.csv")
    with pytest.raises(InputError, match=r"empty\.csv holds no row with a label"):
        read_kinetics(videos, tables / "empty.csv")
    with pytest.raises(InputError, match="no table with a column youtube_id"):
        read_kinetics(videos, videos)
    with pytest.raises(InputError, match="none of the 1 clips") as caught:
        read_kinetics(tmp_path / "tables", tables / "val.csv")
    assert "0347ZoDXyP0_003600_003610.mp4" in caught.value.remedy


def test_the_same_clip_twice_is_refused_and_both_named(tmp_path: Path) -> None:
    one, two = "---QUuC4vJs_000084_000094.mp4", "riding a bike/---QUuC4vJs_000084_000094.mp4"
    with pytest.raises(InputError, match="share the key") as caught:
        read_kinetics(*write(tmp_path, one, two))
    assert one in caught.value.problem
    assert two in caught.value.problem
