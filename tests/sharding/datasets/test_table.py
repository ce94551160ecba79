import os
from pathlib import Path

import fsspec
import pytest

from pclkd.sharding import InputError
from pclkd.sharding.datasets.names import group_number, path_key
from pclkd.sharding.datasets.table import read_table


def touch(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def table(root: Path, text: str) -> Path:
    root.mkdir(exist_ok=True)
    (root / "list.csv").write_bytes(os.fsencode(text))
    return root / "list.csv"


def test_paths_of_every_kind(tmp_path: Path) -> None:
    videos = touch(tmp_path / "videos", "a/1.avi", "both.avi")
    touch(tmp_path / "lists", "beside.avi", "both.avi")
    far = touch(tmp_path / "far", "2.mp4") / "2.mp4"
    rows = ["./a/1.avi,run", f"{videos}/both.avi,run", f"{far},jump", "beside.avi,run", "s3://bucket/x/3.mp4,jump"]
    rows += [f"file://{videos}/a/../a/4.avi,run", "gone.avi,run"]
    touch(videos, "a/4.avi")
    found = read_table(videos, table(tmp_path / "lists", "path,label\n" + "\n".join(rows)))
    assert (found.kind, found.source, found.classes) == ("csv", "list.csv", ("jump", "run"))
    assert {video.path: (video.relative, video.key) for video in found.videos} == {
        f"{videos}/a/1.avi": ("a/1.avi", "a__1"),
        f"{videos}/both.avi": ("both.avi", "both"),
        f"{tmp_path}/lists/beside.avi": ("beside.avi", "beside"),
        str(far): (str(far), path_key(str(far)[1:])),
        "s3://bucket/x/3.mp4": ("s3://bucket/x/3.mp4", "bucket__x__3"),
        f"{videos}/a/4.avi": ("a/4.avi", "a__4"),
    }
    assert found.missing == ("gone.avi",)


def test_the_folder_of_videos_comes_before_the_folder_of_the_table(tmp_path: Path) -> None:
    touch(tmp_path / "videos", "both.avi")
    touch(tmp_path / "lists", "both.avi")
    (video,) = read_table(tmp_path / "videos", table(tmp_path / "lists", "path,label\nboth.avi,run\n")).videos
    assert video.path == str(tmp_path / "videos/both.avi")


def test_groups_and_splits(tmp_path: Path) -> None:
    touch(tmp_path, "1.avi", "2.avi", "3.avi", "4.avi")
    text = "split,group,label,path\ntrain,7,b,1.avi\nVal,anna,a,2.avi\n,anna,a,3.avi\ntest,,a,4.avi\n"
    found = read_table(tmp_path, table(tmp_path, text))
    assert [video.group for video in found.videos] == [7, group_number("anna"), group_number("anna"), -1]
    assert [video.parts for video in found.videos] == [{1: "train", 2: "train"}, {1: "test"}, {}, {2: "test"}]
    assert found.numbers == (1, 2)


def test_without_splits_all_is_train_or_a_share_is_held_out_by_group(tmp_path: Path) -> None:
    touch(tmp_path, *(f"{n}.avi" for n in range(10)))
    path = table(tmp_path, "path,label,group\n" + "".join(f"{n}.avi,x,{n % 5}\n" for n in range(10)))
    assert all(video.parts == {1: "train"} for video in read_table(tmp_path, path).videos)
    held_out = {video.group for video in read_table(tmp_path, path, 0.4).videos if video.parts == {1: "test"}}
    kept = {video.group for video in read_table(tmp_path, path, 0.4).videos if video.parts == {1: "train"}}
    assert (len(held_out), len(kept)) == (2, 3)


def test_labels_that_are_numbers_keep_their_order(tmp_path: Path) -> None:
    touch(tmp_path, *(f"{n}.avi" for n in range(12)))
    found = read_table(tmp_path, table(tmp_path, "path,label\n" + "".join(f"{n}.avi,{n}\n" for n in range(12))))
    assert found.classes == tuple(str(n) for n in range(12))
    assert all(video.label == int(video.key) for video in found.videos)


def test_names_that_are_no_text_and_links_that_lead_nowhere(tmp_path: Path) -> None:
    touch(tmp_path, "caf\udce9.avi")
    (tmp_path / "broken.avi").symlink_to("gone.avi")
    found = read_table(tmp_path, table(tmp_path, "path,label\ncaf\udce9.avi,x\nbroken.avi,x\n"))
    assert [video.relative for video in found.videos] == ["broken.avi", r"caf\xe9.avi"]
    assert found.missing == ()


def test_unused_columns_and_rows_twice_are_told_or_harmless(tmp_path: Path) -> None:
    touch(tmp_path, "1.avi")
    found = read_table(tmp_path, table(tmp_path, "path,label,spilt\n1.avi,x,train\n1.avi,x,train\n"))
    assert len(found.videos) == 1
    assert "the columns 'spilt' are not used" in found.notes


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("path,class\n1.avi,x\n", "list.csv has no column 'label'"),
        ("1.avi,x\n2.avi,y\n", "list.csv has no column 'label'"),
        ("path,label\n1.avi,\n", "list.csv:2: the label is empty"),
        ("path,label\n1.avi,x\n,x\n", "list.csv:3: the path is empty"),
        ("path,label,split\n1.avi,x,trian\n", "list.csv:2: unknown split 'trian'"),
        ("path,label\n1.avi,x\n./1.avi,y\n", "list.csv:3: 1.avi stands in"),
        ("path,label\n1.avi,x\n{here}/1.avi,y\n", "list.csv:3: 1.avi stands in"),
        ("path,label,split\n1.avi,x,train\n1.avi,x,test\n", "list.csv:3: 1.avi stands in"),
        ("path,label\n", "list.csv holds no video"),
        ("", "list.csv holds no video"),
        ("path,label\ngone.avi,x\n", "none of the 1 videos in"),
        ("path,label\n1.avi,x\n1.mp4,x\n", "1.avi and 1.mp4 would share the key '1'"),
    ],
)
def test_wrong_table_is_told_with_its_place(tmp_path: Path, text: str, told: str) -> None:
    touch(tmp_path, "1.avi", "1.mp4")
    with pytest.raises(InputError) as caught:
        read_table(tmp_path, table(tmp_path, text.replace("{here}", str(tmp_path))))
    assert told in str(caught.value)
    assert caught.value.remedy


def test_urls(tmp_path: Path) -> None:
    store = fsspec.filesystem("memory")
    store.pipe("/tables/videos/a/1.avi", b"x")
    store.pipe(
        "/tables/list.csv",
        b"path,label\nmemory://tables/videos/a/1.avi,x\nmemory://elsewhere/2.avi,y\na/gone.avi,x\nmemory://tables/videos/gone.avi,x\n",
    )
    found = read_table("memory://tables/videos", "memory://tables/list.csv")
    assert [video.path for video in found.videos] == ["memory://tables/videos/a/1.avi", "memory://elsewhere/2.avi"]
    assert [video.key for video in found.videos] == ["a__1", "elsewhere__2"]
    assert found.missing == ("a/gone.avi", "gone.avi")
