"""What a shard set tells of time and of chosen tracks, from the videos to `info`."""

import json
import re
import shutil
from collections.abc import Sequence
from pathlib import Path

import av
import numpy as np
import pytest
from av.stream import Disposition
from click.testing import CliRunner, Result

from pclkd.sharding.cli import main
from pclkd.sharding.packing.jobs import MakeShard
from pclkd.sharding.packing.journal import read_record
from pclkd.sharding.packing.pack import pack_videos, plan_packing
from pclkd.sharding.packing.run import PackRun
from pclkd.sharding.shards.index import ShardIndex
from pclkd.sharding.shards.manifest import Manifest
from pclkd.sharding.shards.samples import read_notes
from pclkd.sharding.shards.verify import verify_shards
from pclkd.sharding.video.frames import open_video

UNEVEN = [0, 1, 2, 10, 11, 30]


def grey(level: int) -> list[np.ndarray]:
    return [np.full((48, 64), level, np.uint8), *2 * [np.full((24, 32), 128, np.uint8)]]


@pytest.fixture
def videos(write_video, tmp_path: Path) -> Path:
    """Three classes of one video: even, uneven, and an AVI with empty chunks."""
    for name, times, codec in (
        ("a/even.mp4", range(6), "mpeg4"),
        ("b/uneven.mkv", UNEVEN, "ffv1"),
        ("c/old.avi", UNEVEN, "mpeg4"),
    ):
        path = tmp_path / "videos" / name
        path.parent.mkdir(parents=True)
        write_video(path, [grey(40 + 20 * n) for n in range(6)], codec=codec, times=times)
    return tmp_path / "videos"


def packed(videos: Path, out: Path, **frames: float) -> ShardIndex:
    pack_videos(plan_packing(videos, height=32, width=40, **frames), out, workers=1)
    return ShardIndex.open(out)


def shard_ucf101(*arguments: object) -> Result:
    return CliRunner().invoke(main, list(map(str, arguments)))


def times_of(index: ShardIndex) -> dict[str, list[float]]:
    assert index.frame_time is not None
    rows = index.sample_frames.tolist()
    return {index.key(s): index.frame_time[rows[s] : rows[s + 1]].round(6).tolist() for s in range(len(index))}


def seconds(times: Sequence[int]) -> list[float]:
    return [round(time / 25, 6) for time in times]


def test_uneven_times_are_in_the_index(videos: Path, tmp_path: Path) -> None:
    index = packed(videos, out := tmp_path / "out")
    assert times_of(index) == {"a__even": seconds(range(6)), "b__uneven": seconds(UNEVEN), "c__old": seconds(UNEVEN)}
    fps = {index.key(sample): read_notes(index, sample)["fps"] for sample in range(3)}
    assert fps == {"a__even": 25, "b__uneven": pytest.approx(5 * 25 / 30, abs=1e-3), "c__old": fps["b__uneven"]}
    assert verify_shards(out).damage == ()
    told = shard_ucf101("info", out)
    assert "variable in 2 of 3 videos" in told.output
    assert json.loads(shard_ucf101("info", out, "--json").output)["statistics"]["variable_rate_videos"] == 2
    data = (column := out / "index" / "frame_time.npy").read_bytes()
    column.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    assert [damage.file for damage in verify_shards(out).damage] == ["index/frame_time.npy"]


def test_a_finished_set_is_complete_with_its_times(videos: Path, tmp_path: Path) -> None:
    packed(videos, out := tmp_path / "out")
    assert pack_videos(plan_packing(videos, height=32, width=40), out, workers=1).complete


def test_what_is_recorded_of_a_shard_has_its_times(videos: Path, tmp_path: Path) -> None:
    plan = plan_packing(videos, height=32, width=40)
    (task,) = PackRun(plan.dataset, plan.settings, str(tmp_path), open_video).tasks
    made = MakeShard(task).do((), lambda _: None).packed
    recorded = read_record(task)
    assert recorded is not None
    for before, after in zip(made, recorded.result.packed, strict=True):
        assert (after.fps, after.remark) == (before.fps, before.remark)
        assert (before.times is None) == (after.times is None) == before.video.relative.startswith("a/")
        assert before.times is None or np.array_equal(before.times, after.times)


def test_even_sets_have_no_column_of_times(videos: Path, tmp_path: Path) -> None:
    resampled = packed(videos, tmp_path / "resampled", fps=10)
    counts = {resampled.key(sample): resampled.frame_count(sample) for sample in range(3)}
    assert counts == {"a__even": 3, "b__uneven": 13, "c__old": 13}
    shutil.rmtree(videos / "b")
    shutil.rmtree(videos / "c")
    for index in (resampled, packed(videos, tmp_path / "even")):
        assert index.frame_time is None
        assert not (Path(index.root) / "index" / "frame_time.npy").exists()
        assert "variable" not in shard_ucf101("info", index.root).output


def test_a_shard_set_that_knows_nothing_of_times_and_remarks_is_read(synthetic_shards: Path) -> None:
    """Its bytes are those of before both, which the recorded hashes of all its files hold to."""
    fields = json.loads((synthetic_shards / "manifest.json").read_text())
    assert "remarks" not in fields and "frame_time" not in fields["columns"] and fields["format_version"] == 2
    index = ShardIndex.open(synthetic_shards)
    assert index.frame_time is None and index.manifest.remarks == ()


def test_the_choice_among_tracks_is_told(tmp_path: Path) -> None:
    path = tmp_path / "videos" / "a" / "two.mkv"
    path.parent.mkdir(parents=True)
    with av.open(str(path), "w") as out:
        streams = [out.add_stream("ffv1", rate=25) for _ in range(2)]
        for number, stream in enumerate(streams):
            stream.width, stream.height, stream.pix_fmt = 64, 48, "gray"
            stream.disposition = Disposition.default if number else Disposition(0)
        for number, stream in enumerate(streams):
            frame = av.VideoFrame.from_ndarray(np.full((48, 64), 60 + 100 * number, np.uint8), format="gray")
            out.mux([*stream.encode(frame), *stream.encode()])
    told = "holds 2 video tracks; track 2, the default one, is packed"
    done = shard_ucf101("pack", tmp_path / "videos", tmp_path / "out", "--workers", 1)
    assert done.exit_code == 0
    assert f"note: a/two.mkv {told}" in done.output
    manifest = Manifest.read(tmp_path / "out")
    assert [(remark.video, remark.told) for remark in manifest.remarks] == [("a/two.mkv", told)]
    assert read_notes(ShardIndex.open(tmp_path / "out"), 0)["remark"] == told
    again = shard_ucf101("pack", tmp_path / "videos", tmp_path / "out", "--workers", 1, "--json")
    assert json.loads(re.sub(r"^[^{]*", "", again.output))["complete_already"]
