"""Videos without labels: read, packed, looked at, and pretrained on."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from pclkd.sharding import InputError, ShardIndex
from pclkd.sharding.cli import main
from pclkd.sharding.datasets.loose import read_loose
from pclkd.sharding.datasets.names import group_number
from pclkd.sharding.datasets.reading import read_dataset
from pclkd.sharding.shards.samples import read_notes
from pclkd.training.cli import main as train_kd


def touch(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def test_files_in_no_folder_have_no_labels(tmp_path: Path) -> None:
    found = read_dataset(touch(tmp_path / "heap", "b.mp4", "a.avi", "notes.txt"))
    assert (found.kind, found.source, found.classes, found.numbers) == ("loose", "heap", (), (1,))
    assert [(video.key, video.label, video.group, video.parts) for video in found.videos] == [
        ("a", -1, -1, {1: "train"}),
        ("b", -1, -1, {1: "train"}),
    ]
    assert found.notes[0] == f"read as loose: 2 videos in no class folder in {tmp_path}/heap, no lists"
    assert any("have no labels" in note for note in found.notes)
    assert found.other_files == {".txt": 1}


def test_folders_mean_nothing_but_groups_where_it_is_said(tmp_path: Path) -> None:
    root = touch(tmp_path, "day1/a.mp4", "day1/b.mp4", "day2/cam/a.mp4", "v_x_g07_c01.mp4")
    assert read_dataset(root).kind == "folder"
    found = read_dataset(root, None, "loose")
    assert [video.key for video in found.videos] == ["day1__a", "day1__b", "day2__cam__a", "v_x_g07_c01"]
    assert [video.group for video in found.videos] == [*[group_number("day1")] * 2, group_number("day2/cam"), 7]


def test_a_share_is_held_out_all_the_same(tmp_path: Path) -> None:
    found = read_loose(touch(tmp_path, *(f"{number}.avi" for number in range(10))), 0.2)
    assert found.parts(1) == {"train": 8, "test": 2}


def test_nothing_to_pack(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no video in a class folder of"):
        read_dataset(tmp_path)
    with pytest.raises(InputError, match=r"no video in .*, only 1 \.txt"):
        read_loose(touch(tmp_path, "a.txt"))


@pytest.fixture(scope="module")
def unlabelled(synthetic_videos, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A shard set of 16 videos without labels, 4 of them in the test part."""
    root = tmp_path_factory.mktemp("loose")
    (root / "heap").mkdir()
    for number, clip in enumerate(sorted(synthetic_videos.videos.glob("*/*.avi"))):
        shutil.copy(clip, root / f"heap/{number}.avi")
    arguments = ["pack", str(root / "heap"), str(root / "out"), "--size=64x86", "--test-share=0.25", "--workers=1"]
    done = CliRunner().invoke(main, arguments)
    assert done.exit_code == 0, done.output
    assert "already complete" in CliRunner().invoke(main, arguments).output
    return root / "out"


def test_a_set_without_labels(unlabelled: Path, tmp_path: Path) -> None:
    index = ShardIndex.open(unlabelled)
    assert index.classes == ()
    assert (index.sample_label == -1).all()
    assert len(index.split_samples(1, "test")) == 4
    notes = read_notes(index, 0)
    assert (notes["class"], notes["label"]) == (None, -1)
    with pytest.raises(InputError, match=r"a probe needs labels, and the videos of .* have none"):
        index.require_labels("a probe")
    info = CliRunner().invoke(main, ["info", str(unlabelled)])
    assert info.exit_code == 0, info.output
    assert "the videos have no labels" in info.output
    figures = json.loads(CliRunner().invoke(main, ["info", "--json", str(unlabelled)]).output)["statistics"]
    assert (figures["videos_per_class"], figures["unlabelled"]) == ({}, 16)
    assert CliRunner().invoke(main, ["verify", str(unlabelled)]).exit_code == 0
    for arguments in ([], ["--video", index.key(3)]):
        done = CliRunner().invoke(main, ["preview", str(unlabelled), "--out", str(tmp_path), *arguments])
        assert done.exit_code == 0, done.output
    with Image.open(tmp_path / "classes.png") as sheet:
        assert len(np.unique(np.asarray(sheet))) > 50


def test_networks_learn_from_it_and_what_needs_labels_is_refused(unlabelled: Path, tmp_path: Path) -> None:
    tiny = [
        *("--preset=demo", "--set=backbone.width=0.125", "--set=loader.crop=32", "--set=loader.batch_size=4"),
        *("--set=pcl.negatives=8", "--set=loader.modality=rgb", "--set=tuples.clip_frames=8", "--epochs=1"),
    ]
    train = ["pretrain", "--data", str(unlabelled), *tiny]
    refused = CliRunner().invoke(
        train_kd, [*train, "--out", str(tmp_path / "a"), "--set=checkpoint.best=val/linear_top1_pct"]
    )
    assert refused.exit_code == 2
    assert "checkpoint.best=val/linear_top1_pct needs labels" in refused.output
    done = CliRunner().invoke(train_kd, [*train, "--out", str(tmp_path / "run")])
    assert done.exit_code == 0, done.output
    lines = [json.loads(line) for line in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
    measured = {name for line in lines if line["kind"] == "epoch" for name in line if name.startswith("val/")}
    assert "val/pretext_top1_pct" in measured
    assert all(name.startswith("val/pretext") for name in measured)
    told = CliRunner().invoke(train_kd, ["visualize", str(tmp_path / "run"), "--data", str(unlabelled)])
    assert (told.exit_code, "drawing what was learned needs labels" in told.output) == (2, True)
    for protocol in ("linear", "knn", "retrieval", "finetune"):
        told = CliRunner().invoke(
            train_kd, ["evaluate", str(tmp_path / "run"), "--data", str(unlabelled), "--protocol", protocol]
        )
        assert told.exit_code == 2
        assert f"the protocol {protocol} needs labels" in told.output
        assert len(told.output.strip().splitlines()) == 1
