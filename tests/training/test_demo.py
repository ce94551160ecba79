"""The whole job on a few videos: every run, every evaluation, the report; a second call keeps all of it."""

import json
from pathlib import Path
from typing import Any

import pytest

from pclkd.sharding.common.errors import InputError
from pclkd.training.demo import run_demo

RUNS = ("teacher-r3d", "student-r3d", "student-c3d", "no-teacher-r3d")


def test_the_demo_runs_to_its_report_and_keeps_what_is_done(synthetic_videos: Any, tmp_path: Path) -> None:
    out = tmp_path / "demo"
    report = run_demo(out, videos=synthetic_videos.videos, splits=synthetic_videos.splits, epochs=1)
    for name in RUNS:
        last = [json.loads(line) for line in (out / name / "metrics.jsonl").read_text().splitlines()][-1]
        assert last["epoch"] == 1 and "val/pretext_top1_pct" in last
        for protocol in ("pretext", "linear", "retrieval"):
            assert (out / name / f"eval-{protocol}.json").is_file()
    table = (report.parent / "table.md").read_text()
    assert all(name in table for name in RUNS)
    assert (report.parent / "overview.png").stat().st_size > 10_000 and report.name == "index.html" and report.is_file()
    # The run without a teacher is not the teacher's run again.
    losses = [
        json.loads((out / name / "metrics.jsonl").read_text().splitlines()[-1])["train/pretext"]
        for name in ("teacher-r3d", "no-teacher-r3d")
    ]
    assert losses[0] != losses[1]
    before = {path: path.stat().st_mtime_ns for path in out.glob("*/last.pt")}
    run_demo(out, videos=synthetic_videos.videos, splits=synthetic_videos.splits, epochs=1)
    assert {path: path.stat().st_mtime_ns for path in out.glob("*/last.pt")} == before


def test_videos_without_lists_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"UCF101=.*SPLITS="):
        run_demo(tmp_path / "demo", videos=tmp_path)
    assert not (tmp_path / "demo").exists()
