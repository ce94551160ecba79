"""Which layout is read, and every layout through the command line."""

import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import fsspec
import numpy as np
import pytest
from click.testing import CliRunner

from pclkd.sharding import InputError, ShardIndex
from pclkd.sharding.cli import main
from pclkd.sharding.datasets import layout
from pclkd.sharding.datasets.layout import find_layout, layout_names
from pclkd.sharding.datasets.names import group_number
from pclkd.sharding.datasets.reading import read_dataset

UCF_LISTS = {"classInd.txt": "1 run\n", "trainlist01.txt": "run/1.avi 1\n", "testlist01.txt": "run/2.avi\n"}
HMDB_LISTS = {"run_test_split1.txt": "1.avi 1\n2.avi 2\n"}
KINETICS_LISTS = {"train.csv": "label,youtube_id,time_start,time_end,split\nrun,abc,1,11,train\n"}
PLAIN_LISTS = {"list.csv": "path,label\nrun/1.avi,run\nrun/2.avi,run\n"}


def touch(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def write(root: Path, *lists: dict[str, str]) -> Path:
    root.mkdir(exist_ok=True)
    for texts in lists:
        for name, text in texts.items():
            (root / name).write_text(text)
    return root


@pytest.fixture
def videos(tmp_path: Path) -> Path:
    return touch(tmp_path / "videos", "run/1.avi", "run/2.avi", "abc_000001_000011.mp4")


@pytest.mark.parametrize(
    ("lists", "kind", "told_by"),
    [
        (UCF_LISTS, "ucf101", "classInd.txt"),
        (HMDB_LISTS, "hmdb51", "run_test_split1.txt"),
        (KINETICS_LISTS, "kinetics", "train.csv"),
        (KINETICS_LISTS | {"labels.csv": "id,name\n0,run\n"}, "kinetics", "train.csv"),
        (PLAIN_LISTS, "csv", "list.csv"),
    ],
)
def test_lists_tell_the_layout(videos: Path, tmp_path: Path, lists: dict[str, str], kind, told_by: str) -> None:
    folder = write(tmp_path / "lists", lists)
    found = read_dataset(videos, folder)
    splits = folder / told_by if kind in ("csv", "kinetics") else folder
    assert read_dataset(videos, splits) == found
    assert found.kind == kind
    assert found.notes[0] == f"read as {kind}, as {folder / told_by} tells"
    said = read_dataset(videos, splits, kind)
    assert (said.videos, said.classes, said.numbers) == (found.videos, found.classes, found.numbers)
    assert not any("read as" in note for note in said.notes)
    with pytest.raises(InputError, match="a plain folder has no lists"):
        read_dataset(videos, splits, "folder")
    with pytest.raises(InputError, match="say --splits"):
        read_dataset(videos, None, kind)


def test_no_lists_are_a_plain_folder(videos: Path) -> None:
    found = read_dataset(videos)
    assert (found.kind, found.classes) == ("folder", ("run",))
    assert found.notes[0] == f"read as folder: 1 class folders in {videos}, no lists"
    assert read_dataset(videos, None, "folder").videos == found.videos


def test_a_table_in_place_of_the_folder(videos: Path) -> None:
    write(videos, PLAIN_LISTS)
    found = read_dataset(videos / "list.csv")
    assert (found.kind, found.source) == ("csv", "list.csv")
    assert [video.relative for video in found.videos] == ["run/1.avi", "run/2.avi"]


@pytest.mark.parametrize(
    ("lists", "told"),
    [
        ([UCF_LISTS, HMDB_LISTS], "lists of several kinds: run_test_split1.txt (hmdb51) and classInd.txt (ucf101)"),
        ([KINETICS_LISTS, PLAIN_LISTS], "lists of several kinds: list.csv (csv) and train.csv (kinetics)"),
        ([{"readme.txt": "x"}], "no lists of a known kind"),
        ([PLAIN_LISTS, {"more.csv": "path,label\n"}], "several tables of videos: list.csv, more.csv"),
        ([{"list.csv": "1.avi,run\n"}], "list.csv is no table of a known kind"),
        ([{"labels.csv": "id,name\n0,run\n"}], "labels.csv is no table of a known kind"),
        ([{"list.csv": ""}], "list.csv is no table of a known kind"),
    ],
)
def test_what_cannot_be_told_is_refused(videos: Path, tmp_path: Path, lists: list[dict[str, str]], told: str) -> None:
    with pytest.raises(InputError) as caught:
        read_dataset(videos, write(tmp_path / "lists", *lists))
    assert told in str(caught.value)
    assert caught.value.remedy


def test_lists_elsewhere_are_pointed_to(videos: Path, tmp_path: Path) -> None:
    lists = write(tmp_path / "lists", UCF_LISTS)
    with pytest.raises(InputError, match=f"give {lists}"):
        read_dataset(videos, tmp_path)
    with pytest.raises(InputError, match=f"give its folder, {lists}"):
        read_dataset(videos, lists / "classInd.txt")
    with pytest.raises(InputError, match="is no table of videos"):
        read_dataset(videos, lists, "csv")


def test_said_layout_settles_it(videos: Path, tmp_path: Path) -> None:
    lists = write(tmp_path / "lists", UCF_LISTS, HMDB_LISTS)
    assert read_dataset(videos, lists, "ucf101").kind == "ucf101"
    assert read_dataset(videos, lists, "hmdb51").kind == "hmdb51"


@pytest.mark.parametrize(
    ("name", "known_as"),
    [
        ("Archery/v_Archery_g01_c01.avi", "ucf101"),
        ("clap/#20_Rhythm_clap_u_nm_np1_fr_goo_0.avi", "hmdb51"),
        ("abseiling/-3B32lodo2M_000000_000010.mp4", "kinetics"),
    ],
)
def test_official_splits_are_not_lost_without_a_word(tmp_path: Path, name: str, known_as: str) -> None:
    root = touch(tmp_path, name)
    with pytest.raises(InputError, match=f"named like those of {known_as}, but there are no lists"):
        read_dataset(root)
    assert read_dataset(root, None, "folder").videos[0].relative == name
    touch(root, "Archery/1.avi", "Archery/2.avi")
    assert len(read_dataset(root).videos) == 3


@pytest.mark.parametrize("lists", [UCF_LISTS, HMDB_LISTS])
def test_share_beside_official_splits_is_refused(videos: Path, tmp_path: Path, lists: dict[str, str]) -> None:
    with pytest.raises(InputError, match="which has splits of its own"):
        read_dataset(videos, write(tmp_path / "lists", lists), "auto", 0.2)


def test_wrong_places(videos: Path, tmp_path: Path) -> None:
    for arguments in ((tmp_path / "nowhere",), (videos, tmp_path / "nowhere"), (videos, tmp_path / "nowhere.csv")):
        with pytest.raises(InputError, match="nowhere"):
            read_dataset(*arguments)


def test_the_command_offers_every_layout() -> None:
    names = layout_names()
    assert {"ucf101", "hmdb51", "kinetics", "folder", "loose", "csv"} <= set(names)
    assert [find_layout(name).name for name in names] == list(names)
    assert f"[auto|list|{'|'.join(names)}]" in "".join(CliRunner().invoke(main, ["pack", "-h"]).stdout.split())
    told = CliRunner().invoke(main, ["pack", "--dataset", "list"])
    assert told.exit_code == 0
    lines = {line.split()[0]: line for line in told.output.splitlines()}
    assert set(lines) == {"layout", *names}
    assert all(find_layout(name).expects in lines[name] for name in names)
    with pytest.raises(InputError, match=r"unknown layout 'UFC101'.*did you mean 'ucf101'"):
        read_dataset("videos", "lists", "UFC101")


OWN_LAYOUT = """
import re
from pathlib import Path

from pclkd.sharding import Dataset, Layout, Video, register_layout


def read(root, lists, test_share):
    names = Path(lists).read_text().split()
    parts = {names[0]: {1: "test"}}
    videos = [Video(str(Path(root, n)), n, Path(n).stem, 0, -1, parts.get(n, {1: "train"})) for n in names]
    return Dataset("mine", "mine", ("all",), (1,), tuple(videos), (), (), (f"share {test_share}",))


register_layout(Layout("mine", read, "my_list.txt", list_name=re.compile("my_list.txt"), one_file=True))
"""


@pytest.fixture
def own_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setattr(layout, "_LAYOUTS", dict(layout._LAYOUTS))
    path = tmp_path / "layout_of_mine.py"
    path.write_text(OWN_LAYOUT)
    yield path
    sys.modules.pop("layout_of_mine", None)


@pytest.mark.parametrize("said", [["--dataset=mine"], []])
def test_a_layout_of_ones_own(own_module: Path, synthetic_videos, tmp_path: Path, said: list[str]) -> None:
    clips = sorted(synthetic_videos.videos.glob("*/*.avi"))[:2]
    lists = write(tmp_path / "lists", {"my_list.txt": "\n".join(f"{clip.parent.name}/{clip.name}" for clip in clips)})
    arguments = ["pack", str(synthetic_videos.videos), str(tmp_path / "out"), "--size=16x16", "--max-frames=2"]
    arguments += ["--splits", str(lists / "my_list.txt" if said else lists), "--workers=1", *said]
    unknown = CliRunner().invoke(main, arguments)
    assert (unknown.exit_code, "mine" in CliRunner().invoke(main, ["pack", "-h"]).stdout) == (2, False)
    done = CliRunner().invoke(main, ["--import", str(own_module), *arguments])
    assert done.exit_code == 0, done.output
    assert "note: share 0.0" in done.stdout
    assert ("note: read as mine, as" in done.stdout) == (not said)
    manifest = ShardIndex.open(tmp_path / "out").manifest
    assert (manifest.dataset, manifest.videos) == ("mine", 2)
    assert "|mine]" in CliRunner().invoke(main, ["pack", "-h"]).stdout
    with pytest.raises(InputError, match="which mine needs"):
        read_dataset(synthetic_videos.videos, None, "mine")
    with pytest.raises(InputError, match="a layout named 'mine' exists already"):
        layout.register_layout(layout.find_layout("mine"))


def in_layout(kind: str, source: Path, root: Path) -> list[str]:
    """Lay the rendered videos out as another data set; return the arguments of `pack` that read it."""
    clips = sorted(source.glob("*/*.avi"))  # 4 classes x 4 groups
    lists = root / "lists"
    for place in (root, root / "videos", lists):
        place.mkdir()
    rows = []
    for number, clip in enumerate(clips):
        action, part = clip.parent.name, "test" if number % 4 == 3 else "train"
        if kind == "hmdb51":
            name = f"{action}/Film_{number % 4}_{action}_f_cm_np1_fr_med_{number}.avi"
            with (lists / f"{action}_test_split1.txt").open("a") as file:
                file.write(f"{Path(name).name} {2 if part == 'test' else 1} \n")
        elif kind == "kinetics":
            name = f"{part}/tube-{number:06d}_{number:06d}_{number + 10:06d}.avi"
            rows.append(f"{action},tube-{number:06d},{number},{number + 10},{part}")
        else:
            name = f"{action}/{number % 4}/clip.avi"
            rows.append(f"{name},{action},{number % 4},{part}")
        (root / "videos" / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(clip, root / "videos" / name)
    head = {"kinetics": "label,youtube_id,time_start,time_end,split", "csv": "path,label,group,split"}
    if kind in head:
        (lists / "all.csv").write_text("\n".join([head[kind], *rows, ""]))
    arguments = [str(root / "videos"), str(root / "out")]
    if kind == "folder":
        return [*arguments, "--test-share=0.25"]
    return [*arguments, "--splits", str(lists / "all.csv" if kind == "csv" else lists)]


@pytest.mark.parametrize("kind", ["hmdb51", "kinetics", "folder", "csv"])
def test_every_layout_through_the_command_line(kind: str, synthetic_videos, tmp_path: Path) -> None:
    arguments = in_layout(kind, synthetic_videos.videos, tmp_path / kind)
    done = CliRunner().invoke(main, ["pack", *arguments, "--size=16x16", "--max-frames=2", "--workers=1"])
    assert done.exit_code == 0, done.output
    assert f"note: read as {kind}" in done.stdout
    assert f"({kind})" in done.stdout
    index = ShardIndex.open(tmp_path / kind / "out")
    assert index.manifest.dataset == kind
    assert len(index) == 16
    train, test = index.split_samples(1, "train"), index.split_samples(1, "test")
    assert (len(train), len(test)) == (12, 4)
    groups = index.sample_group
    assert not set(groups[train]) & set(groups[test])
    expected = {
        "hmdb51": {group_number(f"Film_{number}") for number in range(4)},
        "kinetics": {group_number(f"youtube tube-{number:06d}") for number in range(16)},
    }.get(kind, set(range(4)))
    assert set(groups.tolist()) == expected
    assert np.bincount(index.sample_label).tolist() == [4] * 4
    assert CliRunner().invoke(main, ["verify", str(tmp_path / kind / "out")]).exit_code == 0
    summary = json.loads(CliRunner().invoke(main, ["info", "--json", str(tmp_path / kind / "out")]).stdout)
    assert summary["dataset"] == kind


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """URL of an empty bucket of a real S3 server on this machine."""
    moto_server = pytest.importorskip("moto.server")
    s3fs = pytest.importorskip("s3fs")
    server = moto_server.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    s3fs.S3FileSystem.clear_instance_cache()
    s3fs.S3FileSystem().mkdir("videos-of-tests")
    yield "s3://videos-of-tests"
    s3fs.S3FileSystem.clear_instance_cache()
    server.stop()


def test_every_layout_on_an_object_store(bucket: str, videos: Path, tmp_path: Path) -> None:
    fs, _ = fsspec.url_to_fs(bucket)
    fs.put(str(videos), f"{bucket}/videos", recursive=True)
    fs.pipe(f"{bucket}/videos/run/#odd name?.avi", b"x")
    lists = {"ucf101": UCF_LISTS, "hmdb51": HMDB_LISTS, "kinetics": KINETICS_LISTS, "csv": PLAIN_LISTS}
    for kind, texts in lists.items():
        for name, text in texts.items():
            fs.pipe(f"{bucket}/{kind}/{name}", text.encode())
        splits = f"{bucket}/{kind}" + ("/list.csv" if kind == "csv" else "")
        there = read_dataset(f"{bucket}/videos", splits)
        here = read_dataset(videos, write(tmp_path / kind, texts) / ("list.csv" if kind == "csv" else ""))
        assert there.kind == here.kind == kind
        assert (there.classes, there.numbers, there.missing) == (here.classes, here.numbers, here.missing)
        odd = ("run/#odd name?.avi",) if kind in ("ucf101", "hmdb51") else ()
        named = [(video.relative, video.key, video.label, video.group, video.parts) for video in here.videos]
        assert named == [
            (video.relative, video.key, video.label, video.group, video.parts)
            for video in there.videos
            if video.relative not in odd
        ]
        assert {video.relative for video in there.videos} == {video.relative for video in here.videos} | set(odd)
        for video in there.videos:
            assert fsspec.url_to_fs(video.path)[0].exists(video.path)
    assert read_dataset(f"{bucket}/videos/").classes == ("run",)
    with pytest.raises(InputError, match="no files at s3://videos-of-tests/nowhere"):
        read_dataset(f"{bucket}/nowhere")
    with pytest.raises(InputError, match="s3://no-such-bucket-of-tests"):
        read_dataset("s3://no-such-bucket-of-tests/videos")
    with pytest.raises(InputError, match="s3://videos-of-tests/nowhere"):
        read_dataset(f"{bucket}/videos", f"{bucket}/nowhere")
