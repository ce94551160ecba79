"""Data sets of any size: what opening one costs must not depend on it."""

import subprocess
import sys

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from pclkd.benchmarks.cli import main
from pclkd.benchmarks.growth import benchmark
from pclkd.benchmarks.growth.benchmark import probe
from pclkd.benchmarks.growth.kept import KeptRows
from pclkd.benchmarks.growth.large_set import grow_shard_set
from pclkd.benchmarks.measuring.charts import tells_growth, write_growth_chart
from pclkd.benchmarks.measuring.clip_shape import ClipShape
from pclkd.benchmarks.measuring.result import BenchmarkResult, make_result
from pclkd.pipeline.reading.reader import FrameReader
from pclkd.sharding.common.errors import InputError
from pclkd.sharding.packing.pack import pack_videos, plan_packing
from pclkd.sharding.shards.index import ShardIndex
from pclkd.sharding.shards.tar import BLOCK
from pclkd.sharding.synth.dataset import LISTS_FOLDER, VIDEOS_FOLDER, SynthSettings, render_dataset

MILLION = 1_000_000


@pytest.fixture(scope="module")
def short_videos(tmp_path_factory):
    """6 videos of 8 frames of 32x43 pixels: a million of them have 8 million frames."""
    root = tmp_path_factory.mktemp("short")
    settings = SynthSettings(classes=2, groups=3, clips=1, frames=8, seed=3, height=48, width=64)
    render_dataset(root, settings, workers=1)
    plan = plan_packing(root / VIDEOS_FOLDER, root / LISTS_FOLDER, height=32, width=43)
    pack_videos(plan, root / "shards", workers=1)
    return ShardIndex.open(root / "shards")


def test_a_grown_set_holds_the_small_one_over_and_over(short_videos, tmp_path):
    """17 videos, 5 a shard, of 6: neither number divides another."""
    small = short_videos
    grow_shard_set(small, tmp_path / "large", 17, videos_per_shard=5)
    large = ShardIndex.open(tmp_path / "large")
    assert (len(large), len(large.manifest.shards)) == (17, 4)
    assert [shard.samples for shard in large.manifest.shards] == [5, 5, 5, 2]
    assert large.manifest.frames == 17 * 8 == large.sample_frames[-1]
    assert large.key(16) == "video-0000016"
    original, grown = FrameReader(small), FrameReader(large)
    for video in range(17):
        source = video % 5  # each shard starts with the small set's first video
        for name in ("sample_label", "sample_group", "sample_split", "sample_height", "sample_crc32", "sample_size"):
            assert np.array_equal(getattr(large, name)[video], getattr(small, name)[source]), name
        assert large.sample_shard[video] == video // 5
        # Reading checks each frame's CRC-32.
        frames = grown.read(video, np.arange(8))
        assert [frame.tobytes() for frame in frames] == [
            frame.tobytes() for frame in original.read(source, np.arange(8))
        ]
        header = (tmp_path / "large" / f"shard-{video // 5:06d}.tar").read_bytes()[large.sample_offset[video] - BLOCK :]
        assert header.startswith(small.key(source).encode())
    parts = np.asarray(small.sample_split)[np.arange(17) % 5, 0]
    assert len(large.split_samples(1, "train")) == (parts == 1).sum() == large.manifest.splits["1"].train


def test_a_grown_shard_is_a_whole_tar(short_videos, tmp_path):
    """With the names that the small set has; other tar readers see its end."""
    grow_shard_set(short_videos, tmp_path / "large", 6)
    names = subprocess.run(
        ["tar", "tf", tmp_path / "large" / "shard-000000.tar"], capture_output=True, text=True, check=True
    ).stdout.split()
    assert names == [f"{short_videos.key(i)}.{end}" for i in range(6) for end in ("mjpeg", "json")]


def test_a_million_videos_open_in_little_memory_and_give_a_batch(short_videos, tmp_path):
    grow_shard_set(short_videos, tmp_path / "large", MILLION)
    shape = ClipShape(2, 8, 32)
    told = probe(tmp_path / "large", shape)
    assert told["videos"] == MILLION
    assert told["open_mib"] < 200
    assert told["samples"] == 2
    grow_shard_set(short_videos, tmp_path / "small", 1000)
    few = probe(tmp_path / "small", shape)
    # The order of an epoch is 8 bytes a video, the columns that are looked through some more; nothing is copied.
    assert told["first_batch_mib"] - few["first_batch_mib"] < 100
    assert told["open_mib"] - few["open_mib"] < 20


def test_opening_reads_no_column_through(short_videos, tmp_path):
    """Counted, not timed: of the 128 MB of frame columns hardly a page is touched before the first batch."""
    grow_shard_set(short_videos, tmp_path / "large", MILLION)
    program = """
import sys
from pathlib import Path
from pclkd.sharding.shards.index import ShardIndex
index = ShardIndex.open(sys.argv[1])
found = {}
for part in Path("/proc/self/smaps").read_text().split("VmFlags")[:-1]:
    if "/index/" in part:
        name = part[part.index("/index/") + 7 :].split()[0]
        kib = int(part[part.index("Rss:") + 4 :].split()[0])
        found[name] = found.get(name, 0) + kib
print(max(value for name, value in found.items() if name.startswith("frame_")), len(found))
"""
    done = subprocess.run(
        [sys.executable, "-c", program, tmp_path / "large"], capture_output=True, text=True, check=True
    )
    kib, columns = map(int, done.stdout.split())
    assert columns == 14
    assert kib <= 512


def test_a_disk_that_is_too_small_is_told_before_writing(short_videos, tmp_path):
    with pytest.raises(InputError, match=r"need .* GiB"):
        grow_shard_set(short_videos, tmp_path / "large", 10**14)


def test_scale_command(short_videos, tmp_path):
    file = tmp_path / "result.json"
    command = ["scale", "--data", short_videos.root, "--videos", "40", "--videos", "400", "--scratch", tmp_path]
    command += ["--rounds", "1", "--batch-size", "2", "--frames", "8", "--json", file, "--chart", tmp_path / "c.png"]
    done = CliRunner().invoke(main, list(map(str, command)), catch_exceptions=False)
    assert done.exit_code == 0, done.output
    result = BenchmarkResult.model_validate_json(file.read_text())
    assert [figure.name for figure in result.results] == [
        f"{name}/{size}" for name in ("open", "first_batch", "open_memory", "first_batch_memory") for size in (40, 400)
    ]
    assert all(figure.values[0] > 0 for figure in result.results)
    assert result["first_batch/40"].ratio == 1
    assert result["open/400"].extra["frames"] == 3200
    assert sorted(path.name for path in tmp_path.iterdir()) == ["c.png", "result.json"]  # the large sets are gone


@pytest.fixture
def scale(short_videos, tmp_path):
    """Runs the command with two rounds of two sizes."""
    file = tmp_path / "result.json"
    command = ["scale", "--data", short_videos.root, "--videos", "40,400", "--rounds", "2", "--batch-size", "2"]
    command += ["--frames", "8", "--json", file, "--scratch", tmp_path]

    def run():
        done = CliRunner().invoke(main, list(map(str, command)), catch_exceptions=False)
        assert done.exit_code == 0, done.output
        return BenchmarkResult.model_validate_json(file.read_text()), done.stderr

    return run


def told(root, shape):
    size = float(root.name)
    return {"open_s": size, "first_batch_s": 2 * size, "open_mib": 3 * size, "first_batch_mib": 4 * size}


def test_who_is_killed_keeps_what_is_measured_and_goes_on_behind_it(scale, tmp_path, monkeypatch):
    measured = []

    def killed_in_the_third(root, shape):
        if len(measured) == 3:
            raise SystemExit(137)
        measured.append(root.name)
        return told(root, shape)

    monkeypatch.setattr(benchmark, "probe", killed_in_the_third)
    with pytest.raises(AssertionError):
        scale()
    # The round that is through is a result already.
    assert BenchmarkResult.model_validate_json((tmp_path / "result.json").read_text())["open/40"].rounds == 1
    rows = tmp_path / "result.rows.jsonl"
    with rows.open("a") as file:
        file.write('{"settings": {"cut o')  # by the kill
    monkeypatch.setattr(benchmark, "probe", lambda root, shape: measured.append(root.name) or told(root, shape))
    result, _ = scale()
    assert measured == ["40", "400", "400", "40"]  # every second round runs backwards
    assert result["first_batch/400"].values == [800, 800] and result["open/40"].rounds == 2
    assert any("3 measurements are of an earlier attempt" in note for note in result.notes)
    assert not rows.exists()
    _, _ = scale()
    assert len(measured) == 8  # a finished one is measured anew


def test_a_size_whose_process_dies_is_left_out_and_the_others_go_on(scale, monkeypatch):
    def too_large(root, shape):
        if root.name == "400":
            subprocess.run([sys.executable, "-c", "import os; os.kill(os.getpid(), 9)"], check=True)
        return told(root, shape)

    monkeypatch.setattr(benchmark, "probe", too_large)
    result, said = scale()
    assert {figure.name for figure in result.results} == {
        f"{name}/40" for name in ("open", "first_batch", "open_memory", "first_batch_memory")
    }
    assert result.missing == {"400 videos": "round 1: its process was ended by SIGKILL"} and "400 videos are" in said
    assert result["open/40"].rounds == 2


def test_rows_of_something_else_are_not_taken_up(tmp_path):
    result = tmp_path / "result.json"
    first = KeptRows(result, {"batch_size": 2})
    assert first.row("0/40", lambda: {"open_s": 1.0}) == {"open_s": 1.0}
    other = KeptRows(result, {"batch_size": 3})
    assert other.row("0/40", lambda: {"open_s": 2.0}) == {"open_s": 2.0} and other.taken_up == 0
    same = KeptRows(result, {"batch_size": 2})
    assert same.row("0/40", dict) == {"open_s": 1.0} and same.taken_up == 1
    KeptRows(None, {}).row("0/40", dict)
    same.done()
    assert list(tmp_path.iterdir()) == []


def test_growth_is_drawn_from_a_result_of_several_sizes_alone(tmp_path):
    units = {"open": "s", "first_batch": "s", "open_memory": "MiB", "first_batch_memory": "MiB"}
    values = {f"{name}/{size}": [size / 100, size / 90] for name in units for size in (100, 10_000)}
    of_cases = {name: units[name.partition("/")[0]] for name in values}
    extra = {f"open/{size}": {"index_mib": size / 50} for size in (100, 10_000)}
    grown = make_result("scale", of_cases, values, "open/100", {}, extra=extra)
    assert tells_growth(grown)
    write_growth_chart(grown, tmp_path / "growth.png")
    with Image.open(tmp_path / "growth.png") as picture:
        colours = {colour for _, colour in picture.convert("RGB").getcolors(2**24)}
    assert {(0x00, 0x72, 0xB2), (0xD5, 0x5E, 0x00), (0xA8, 0xA8, 0xA8)} <= colours
    other = make_result("scale", "samples/s", {"1_process": [1.0]}, "1_process", {})
    assert not tells_growth(other)
    with pytest.raises(InputError, match="without sizes"):
        write_growth_chart(other, tmp_path / "other.png")


@pytest.mark.parametrize(
    ("arguments", "told"), [(["--videos", "2"], "--videos"), (["--scratch", "{none}"], "--scratch")]
)
def test_wrong_input_ends_in_one_line(short_videos, tmp_path, arguments, told):
    arguments = [part.format(none=tmp_path / "none") for part in arguments]
    command = ["scale", "--data", short_videos.root, "--batch-size", "16", "--frames", "8", *arguments]
    done = CliRunner().invoke(main, command, catch_exceptions=False)
    assert done.exit_code == 2
    assert told in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
