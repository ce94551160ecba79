"""Samples that are spans of longer videos: the right frames, one pass over each video, whatever is damaged."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from click.testing import CliRunner

from pclkd.sharding import InputError, Manifest, ShardIndex, plan_packing
from pclkd.sharding.cli import main
from pclkd.sharding.packing.deal import deal_videos
from pclkd.sharding.packing.run import PackRun
from pclkd.sharding.packing.shard import make_shard
from pclkd.sharding.shards.manifest import Quarantined
from pclkd.sharding.shards.samples import read_frames, read_notes
from pclkd.sharding.video.frames import open_video

FRAMES = 85


def write(path: Path, frames: int = FRAMES) -> Path:
    """A video of 25 frames a second whose frame n has the grey 3 n, without loss."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w", format="matroska") as file:
        stream = file.add_stream("ffv1", rate=25)
        stream.width, stream.height, stream.pix_fmt = 32, 32, "yuv420p"
        for number in range(frames):
            frame = av.VideoFrame.from_ndarray(np.full((32, 32, 3), 3 * number, np.uint8)).reformat(format="yuv420p")
            frame.pts, frame.time_base = number, Fraction(1, 25)
            file.mux(stream.encode(frame))
        file.mux(stream.encode())
    return path


def table(root: Path, *rows: str, head: str = "path,label,start,end") -> Path:
    (root / "list.csv").write_text("\n".join([head, *rows, ""]))
    return root / "list.csv"


def pack(*arguments: object) -> tuple[int, str]:
    done = CliRunner().invoke(main, ["pack", *map(str, arguments), "--size=16x16", "--workers=1"])
    return done.exit_code, done.output


def numbers(out: Path) -> dict[str, list[int]]:
    """The frames of each sample by its key, as their grey tells."""
    index = ShardIndex.open(out)
    return {
        index.key(sample): [
            round(float(frame.mean()) / 3) for frame in read_frames(index, sample, range(index.frame_count(sample)))
        ]
        for sample in range(len(index))
    }


SPANS = {
    "a.mkv,run,0.4,1.2": ("a-400-1200ms", range(10, 30)),
    "a.mkv,jump,0.8,2": ("a-800-2000ms", range(20, 50)),
    "a.mkv,run,1.2,1.6": ("a-1200-1600ms", range(30, 40)),
    "a.mkv,run,3,3.4": ("a-3000-3400ms", range(75, 85)),
    "b.mkv,run,0,0.2": ("b-0-200ms", range(5)),
}


def test_spans_in_seconds_however_they_overlap(tmp_path: Path) -> None:
    write(tmp_path / "a.mkv")
    write(tmp_path / "b.mkv", 10)
    code, text = pack(table(tmp_path, *reversed(SPANS)), tmp_path / "out")
    assert code == 0, text
    assert "note: 5 rows are spans of 2 videos" in text
    assert numbers(tmp_path / "out") == {key: list(frames) for key, frames in SPANS.values()}
    index = ShardIndex.open(tmp_path / "out")
    assert len(set(index.sample_group.tolist())) == 2
    notes = {index.key(sample): read_notes(index, sample) for sample in range(5)}
    assert notes["a-400-1200ms"]["span"] == {"start": 0.4, "end": 1.2, "unit": "s"}
    assert (notes["a-400-1200ms"]["source"], notes["a-400-1200ms"]["fps"]) == ("a.mkv", 25)
    assert CliRunner().invoke(main, ["verify", str(tmp_path / "out")]).exit_code == 0
    assert "already complete" in pack(tmp_path / "list.csv", tmp_path / "out")[1]
    refused = CliRunner().invoke(main, ["info", str(tmp_path / "out"), "--quality", str(tmp_path)])
    assert "is a span of a longer one" in refused.output


@pytest.mark.parametrize(
    ("option", "expected"),
    [
        ("--fps=5", [list(range(10, 30, 5)), list(range(20, 50, 5)), [30, 35], [75, 80], [0]]),
        ("--fps=50", [[n // 2 for n in range(20, 60)], None, None, None, [n // 2 for n in range(10)]]),
        ("--max-frames=3", [[10, 11, 12], [20, 21, 22], [30, 31, 32], [75, 76, 77], [0, 1, 2]]),
    ],
)
def test_rates_and_limits_hold_for_each_span(tmp_path: Path, option: str, expected: list[list[int] | None]) -> None:
    write(tmp_path / "a.mkv")
    write(tmp_path / "b.mkv", 10)
    code, text = pack(table(tmp_path, *SPANS), tmp_path / "out", option)
    assert code == 0, text
    found = numbers(tmp_path / "out")
    for (key, _), frames in zip(SPANS.values(), expected, strict=True):
        assert frames is None or found[key] == frames


def test_spans_in_frames_and_whole_videos_beside_them(tmp_path: Path) -> None:
    write(tmp_path / "a.mkv")
    write(tmp_path / "b.mkv", 6)
    rows = ["a.mkv,run,10,20", "a.mkv,run,80,500", "b.mkv,run,,"]
    code, text = pack(table(tmp_path, *rows, head="path,label,start_frame,end_frame"), tmp_path / "out")
    assert code == 0, text
    assert numbers(tmp_path / "out") == {
        "a-10-20f": list(range(10, 20)),
        "a-80-500f": list(range(80, 85)),
        "b": list(range(6)),
    }
    assert "spans in frames, and --fps 5" in pack(tmp_path / "list.csv", tmp_path / "other", "--fps=5")[1]


def test_one_span_of_several_actions_is_a_sample_of_each(tmp_path: Path) -> None:
    write(tmp_path / "a.mkv", 30)
    rows = ["a.mkv,run,0,1", "a.mkv,talk,0,1", "a.mkv,run,0,1", "a.mkv,talk,0.5,1"]
    code, text = pack(table(tmp_path, *rows), tmp_path / "out")
    assert code == 0, text
    assert {key: len(frames) for key, frames in numbers(tmp_path / "out").items()} == {
        "a-0-1000ms-c0": 25,
        "a-0-1000ms-c1": 25,
        "a-500-1000ms": 12,
    }


@pytest.mark.parametrize(
    ("row", "told"),
    [
        ("a.mkv,run,1,1", "list.csv:2: start and end are '1' and '1'"),
        ("a.mkv,run,1,", "list.csv:2: start and end are '1' and ''"),
        ("a.mkv,run,-1,2", "list.csv:2: start and end are '-1' and '2'"),
        ("a.mkv,run,1,inf", "list.csv:2: start and end are '1' and 'inf'"),
        ("a.mkv,run,1:00,2:00", "list.csv:2: start and end are '1:00' and '2:00'"),
    ],
)
def test_rows_that_are_no_span_are_told(tmp_path: Path, row: str, told: str) -> None:
    (tmp_path / "a.mkv").touch()
    with pytest.raises(InputError) as caught:
        plan_packing(table(tmp_path, row))
    assert told in str(caught.value)


def test_seconds_and_frames_do_not_mix(tmp_path: Path) -> None:
    (tmp_path / "a.mkv").touch()
    head = "path,label,start,end,start_frame,end_frame"
    with pytest.raises(InputError, match="has spans in seconds and in frames"):
        plan_packing(table(tmp_path, "a.mkv,run,0,1,,", "a.mkv,run,,,5,6", head=head))


def test_spans_of_a_video_go_into_one_shard_in_their_order(tmp_path: Path) -> None:
    for name in "abcdefgh":
        (tmp_path / f"{name}.mkv").touch()
    rows = [f"{name}.mkv,run,{start},{start + 3}" for name in "abcdefgh" for start in (5, 1, 3, 2, 4)]
    shards = deal_videos(plan_packing(table(tmp_path, *rows)).dataset.videos)
    assert len(shards) > 1
    for videos in shards.values():
        order = [(video.relative, video.span) for video in videos]
        starts = [place for place in range(len(order)) if not place or order[place][0] != order[place - 1][0]]
        assert len(starts) == len({name for name, _ in order})
        for at in starts:
            spans = [span for _, span in order[at : at + 5]]
            assert spans == sorted(spans)


@pytest.fixture
def make(tmp_path: Path) -> Callable[..., tuple[list[Any], list[int]]]:
    """Make the one shard of a table in this process; return what became of its samples, and frames read a pass."""

    def make(*rows: str, so_far: int = 0) -> tuple[list[Any], list[int]]:
        reads: list[int] = []

        @contextmanager
        def opener(*arguments: Any) -> Iterator[Any]:
            with open_video(*arguments) as video:
                reads.append(0)
                frames = video.frames

                def counted() -> Iterator[bytes]:
                    for frame in frames:
                        reads[-1] += 1
                        yield frame

                object.__setattr__(video, "frames", counted())
                yield video

        plan = plan_packing(table(tmp_path, *rows), height=16, width=16)
        (tmp_path / "out").mkdir(exist_ok=True)
        (task,) = PackRun(plan.dataset, plan.settings, str(tmp_path / "out"), opener).tasks
        told: list[Any] = []
        make_shard(task, (), told.append)
        outcomes = [message[1] for message in told if message[0] == "through"]
        if so_far:
            (tmp_path / "out" / task.name).replace(task.part)
            with task.part.open("r+b") as file:
                file.truncate(outcomes[so_far - 1].start + outcomes[so_far - 1].size)
            reads.clear()
            make_shard(task, outcomes[:so_far], told.append)
        return outcomes, reads

    return make


def test_a_video_is_decoded_once_and_no_further_than_needed(tmp_path: Path, make) -> None:
    write(tmp_path / "a.mkv")
    outcomes, reads = make("a.mkv,run,0,1", "a.mkv,run,0.5,3", "a.mkv,run,1,1.2")
    assert [len(outcome.lengths) for outcome in outcomes] == [25, 62, 5]
    assert len(reads) == 1
    assert 75 <= reads[0] <= 77


def test_a_process_that_was_lost_goes_on_with_the_next_span(tmp_path: Path, make) -> None:
    write(tmp_path / "a.mkv")
    rows = ("a.mkv,run,0,1", "a.mkv,run,0.5,3", "a.mkv,run,1,1.2")
    make(*rows)
    whole = (tmp_path / "out/shard-000000.tar").read_bytes()
    _, reads = make(*rows, so_far=1)
    assert (tmp_path / "out/shard-000000.tar").read_bytes() == whole
    assert len(reads) == 1


def test_damage_costs_the_spans_that_it_hits(tmp_path: Path, make) -> None:
    path = write(tmp_path / "a.mkv")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    rows = [f"a.mkv,run,{start / 10},{start / 10 + 0.2}" for start in range(0, 34, 2)]
    outcomes, reads = make(*rows)
    sound = [not isinstance(outcome, Quarantined) for outcome in outcomes]
    assert sound[:5] == [True] * 5
    assert sound[-5:] == [False] * 5
    assert sorted(sound, reverse=True) == sound
    assert outcomes[-1].video == "a.mkv 3.2-3.4 s"
    assert len(reads) == 2  # a second attempt, for all that are hit


def test_parts_and_merged_sets_hold_the_same_bytes(tmp_path: Path) -> None:
    for name in "ab":
        write(tmp_path / f"{name}.mkv", 30)
    rows = [f"{name}.mkv,run,0.{start},{start}.4" for name in "ab" for start in (1, 4)]
    assert pack(table(tmp_path, *rows), tmp_path / "whole")[0] == 0
    for part in ("1/2", "2/2"):
        assert pack(tmp_path / "list.csv", tmp_path / "parts", "--part", part)[0] == 0
    assert CliRunner().invoke(main, ["finish", str(tmp_path / "parts")]).exit_code == 0
    for half in (rows[:2], rows[2:]):
        assert pack(table(tmp_path, *half), tmp_path / half[0][0])[0] == 0
    done = CliRunner().invoke(main, ["merge", *(str(tmp_path / name) for name in ("a", "b", "merged"))])
    assert done.exit_code == 0, done.output
    whole, parts, merged = (numbers(tmp_path / name) for name in ("whole", "parts", "merged"))
    assert whole == parts == merged
    tars = [
        sorted(path.read_bytes() for path in (tmp_path / name).glob("*.tar")) for name in ("whole", "parts", "merged")
    ]
    assert tars[0] == tars[1] == tars[2]


def test_a_span_behind_the_end_has_no_frame(tmp_path: Path) -> None:
    write(tmp_path / "a.mkv", 20)
    code, text = pack(table(tmp_path, "a.mkv,run,0.4,5", "a.mkv,run,7,8"), tmp_path / "out")
    assert code == 3, text
    assert numbers(tmp_path / "out") == {"a-400-5000ms": list(range(10, 20))}
    (left_out,) = Manifest.read(tmp_path / "out").quarantined
    assert (left_out.video, left_out.reason) == ("a.mkv 7-8 s", "has no frame in 7-8 s")


def test_untrimmed_kinetics(tmp_path: Path) -> None:
    ids = ["tube-aaaaaa", "tube-bbbbbb"]
    write(tmp_path / f"videos/{ids[0]}.mkv")
    write(tmp_path / f"videos/{ids[1]}_000001_000002.mkv", 30)
    rows = [f"run,{ids[0]},1,2,train", f"jump,{ids[0]},2,4,train", f"run,{ids[1]},1,2,val", "run,gone,1,2,val"]
    (tmp_path / "all.csv").write_text("\n".join(["label,youtube_id,time_start,time_end,split", *rows, ""]))
    code, text = pack(tmp_path / "videos", tmp_path / "out", "--splits", tmp_path / "all.csv")
    assert code == 0, text
    assert "note: 2 clips are cut from 1 longer videos" in text
    assert numbers(tmp_path / "out") == {
        f"{ids[0]}_000001_000002": list(range(25, 50)),
        f"{ids[0]}_000002_000004": list(range(50, 85)),
        f"{ids[1]}_000001_000002": list(range(30)),
    }
    assert Manifest.read(tmp_path / "out").missing == ("gone_000001_000002.mp4",)


def test_activitynet(tmp_path: Path) -> None:
    for name in ("v_one", "two", "v_three"):
        write(tmp_path / f"videos/{name}.mkv", 50)
    segments = {
        "one": ("training", [(0.4, 0.8, "run"), (0.4, 0.8, "jump"), (1, 0.5, "run")]),
        "two": ("validation", [(1.2, 9, "run")]),
        "three": ("testing", []),
    }
    database = {
        name: {"subset": part, "annotations": [{"segment": [start, end], "label": label} for start, end, label in told]}
        for name, (part, told) in segments.items()
    }
    (tmp_path / "lists").mkdir()
    (tmp_path / "lists/activity_net.v1-3.min.json").write_text(json.dumps({"version": "1.3", "database": database}))
    code, text = pack(tmp_path / "videos", tmp_path / "out", "--splits", tmp_path / "lists")
    assert code == 0, text
    assert "1 segments end before they begin" in text
    assert numbers(tmp_path / "out") == {
        "v_one_000": list(range(10, 20)),
        "v_one_001": list(range(10, 20)),
        "v_two_000": list(range(30, 50)),
    }
    manifest = Manifest.read(tmp_path / "out")
    assert (manifest.dataset, manifest.classes) == ("activitynet", ("jump", "run"))
    assert (manifest.splits["1"].train, manifest.splits["1"].test) == (2, 1)
    assert manifest.unlisted == ("v_three.mkv",)


def test_a_table_finds_videos_without_their_suffix(tmp_path: Path) -> None:
    write(tmp_path / "clips/a.mkv", 10)
    write(tmp_path / "clips/b.mkv", 10)
    found = plan_packing(
        table(tmp_path, "clips/a.avi,run", "clips/B,run", "clips/c.avi,run", head="path,label")
    ).dataset
    assert [(video.relative, video.key) for video in found.videos] == [
        ("clips/b.mkv", "clips__B"),
        ("clips/a.mkv", "clips__a"),
    ]
    assert found.missing == ("clips/c.avi",)
    assert "2 videos are matched to the table without their suffix, such as clips/b.mkv for clips/B" in found.notes
