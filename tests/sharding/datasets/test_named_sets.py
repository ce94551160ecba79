"""Something-Something, Jester, Diving48 and Mini-Kinetics: lists that name clips, wherever those lie."""

import json
from pathlib import Path
from typing import Any

import pytest

from pclkd.sharding import InputError
from pclkd.sharding.datasets.dataset import Dataset
from pclkd.sharding.datasets.names import group_number
from pclkd.sharding.datasets.reading import read_dataset


def touch(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def write(root: Path, **lists: Any) -> Path:
    root.mkdir(exist_ok=True)
    for name, content in lists.items():
        text = content if isinstance(content, str) else json.dumps(content)
        (root / name.replace("__", "-").replace("_csv", ".csv").replace("_json", ".json")).write_text(text)
    return root


def told(dataset: Dataset) -> dict[str, tuple[str, dict[int, str]]]:
    return {video.key: (dataset.classes[video.label], dict(video.parts)) for video in dataset.videos}


V2 = {
    "train_json": [
        {"id": "1", "label": "holding a cup", "template": "Holding [something]"},
        {"id": "22", "label": "x", "template": "Pushing [something] off [something]"},
    ],
    "validation_json": [{"id": 3, "template": "Holding [something]"}],
    "test_json": [{"id": "4"}],
    "labels_json": {"Pushing something off something": "0", "Holding something": "1"},
}


@pytest.mark.parametrize("prefix", ["", "something-something-v2-"])
def test_something_v2(tmp_path: Path, prefix: str) -> None:
    lists = write(tmp_path / "lists", **{prefix + name: rows for name, rows in V2.items()})
    videos = touch(tmp_path / "videos", "1.webm", "22.webm", "3.mp4", "4.webm")
    found = read_dataset(videos, lists)
    assert (found.kind, found.numbers) == ("something-v2", (1,))
    assert found.classes == ("Pushing something off something", "Holding something")
    assert told(found) == {
        "1": ("Holding something", {1: "train"}),
        "22": ("Pushing something off something", {1: "train"}),
        "3": ("Holding something", {1: "test"}),
    }
    assert found.unlisted == ("4.webm",)
    assert "1 videos of the test part have no labels and are left out" in found.notes
    assert found.notes[0].startswith("read as something-v2, as ")
    with pytest.raises(InputError, match="which has splits of its own"):
        read_dataset(videos, lists, test_share=0.1)


@pytest.mark.parametrize(("kind", "prefix"), [("jester", "jester-v1-"), ("something-v1", "something-something-v1-")])
def test_lists_with_semicolons(tmp_path: Path, kind: str, prefix: str) -> None:
    lists = {"train": "1;Swiping Left\n22;No gesture\n", "validation": "3;No gesture\n", "test": "4\n"}
    lists["labels"] = "Swiping Left\nNo gesture\n"
    folder = write(tmp_path / "lists", **{f"{prefix}{name}_csv": text for name, text in lists.items()})
    videos = touch(tmp_path / "videos", "1.mp4", "22.mp4", "3.mp4")
    found = read_dataset(videos, folder)
    assert (found.kind, found.classes) == (kind, ("Swiping Left", "No gesture"))
    assert told(found)["22"] == ("No gesture", {1: "train"})
    assert told(found)["3"] == ("No gesture", {1: "test"})
    assert read_dataset(videos, folder / f"{prefix}train.csv").videos == found.videos
    (folder / f"{prefix}labels.csv").write_text("Swiping Left\n")
    with pytest.raises(InputError, match=r"train\.csv:2: 22 is 'No gesture', which is not in the list of labels"):
        read_dataset(videos, folder)
    (folder / f"{prefix}labels.csv").unlink()
    assert read_dataset(videos, folder).classes == ("No gesture", "Swiping Left")


def test_diving48(tmp_path: Path) -> None:
    rows = [{"vid_name": "-mmq0PT-u8k_00155", "label": 1, "start_frame": 0, "end_frame": 48}]
    lists = {"Diving48_V2_train_json": rows, "Diving48_V2_test_json": [{"vid_name": "-mmq0PT-u8k_00156", "label": 0}]}
    folder = write(tmp_path / "lists", **lists)
    videos = touch(tmp_path / "rgb", "-mmq0PT-u8k_00155.mp4", "-mmq0PT-u8k_00156.mp4")
    assert read_dataset(videos, folder).classes == ("dive 0", "dive 1")
    write(folder, Diving48_vocab_json=[["Back", "15som", "05Twis", "FREE"], "Forward", "Inward"])
    found = read_dataset(videos, folder)
    assert (found.kind, found.classes) == ("diving48", ("Back 15som 05Twis FREE", "Forward", "Inward"))
    assert told(found)["-mmq0PT-u8k_00155"] == ("Forward", {1: "train"})
    assert {video.group for video in found.videos} == {group_number("youtube -mmq0PT-u8k")}
    write(folder, Diving48_V2_test_json=[{"vid_name": "x", "label": 3}])
    with pytest.raises(InputError, match=r"Diving48_V2_test\.json: row 1: label 3, Diving48_vocab\.json has 3"):
        read_dataset(videos, folder)


def test_mini_kinetics(tmp_path: Path) -> None:
    head = "label,youtube_id,time_start,time_end,split\n"
    ids = [f"tube-{number:06d}" for number in range(4)]
    rows = {"train": f"run,{ids[0]},1,11,train\njump,{ids[1]},1,11,train\n", "val": f"run,{ids[2]},1,11,validate\n"}
    lists = write(tmp_path / "lists", **{f"{name}_csv": head + text for name, text in rows.items()})
    videos = touch(tmp_path / "videos", *(f"{name}_000001_000011.mp4" for name in ids))
    assert len(read_dataset(videos, lists).videos) == 3
    (lists / "train_ytid_list.txt").write_text(f"{ids[0]}\n")
    (lists / "val_ytid_list.txt").write_text(f"{ids[1]}\n{ids[2]}\n")
    found = read_dataset(videos, lists)
    assert (found.kind, found.classes) == ("kinetics", ("run",))
    assert [video.parts for video in found.videos] == [{1: "train"}, {1: "test"}]
    assert "Mini-Kinetics: 2 rows that its lists name are taken, 1 are not" in found.notes


@pytest.mark.parametrize(
    ("lists", "said"),
    [
        ({"train_json": "[1,"}, "train.json is no JSON"),
        ({"train_json": {"id": "1"}}, "train.json is no list of rows"),
        ({"train_json": [{"template": "x"}]}, "train.json is no list of rows"),
        ({"labels_json": [1]}, 'labels.json is not {"class": "0", ...}'),
        ({"test_json": [{"id": "1"}]}, "holds no list of something-v2 with labels"),
        ({"Diving48_V2_train_json": [{"vid_name": "x"}]}, "Diving48_V2_train.json: row 1 is not"),
        (
            {"jester__v1__train_csv": "1;a\n1;b\n"},
            "jester-v1-train.csv:2: clip 1 is 'b' in train here but 'a' in train",
        ),
        ({"jester__v1__train_csv": "77;a\n"}, "none of the 1 clips of the lists is in"),
    ],
)
def test_what_is_wrong_is_told_with_its_place(tmp_path: Path, lists: dict[str, Any], said: str) -> None:
    videos = touch(tmp_path / "videos", "1.mp4")
    with pytest.raises(InputError) as caught:
        read_dataset(videos, write(tmp_path / "lists", **lists))
    assert said in str(caught.value)
    assert caught.value.remedy
