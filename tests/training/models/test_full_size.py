"""The published sizes on real videos: 3 x 16 x 112 x 112 clips, full-width networks, the whole way from the .avi."""

import json
import math
import shutil
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from pclkd.sharding.packing.pack import pack_videos, plan_packing
from pclkd.training.cli import main
from pclkd.training.runs.checkpoint import load_checkpoint


@pytest.mark.real_videos
def test_one_full_size_step_of_pcl_and_of_distillation(ucf101_sample: Any, tmp_path: Path) -> None:
    videos = tmp_path / "UCF-101" / "YoYo"
    videos.mkdir(parents=True)
    for name in ("g08_c01", "g08_c03", "g09_c01", "g10_c01"):  # train part of split 1
        shutil.copy(ucf101_sample.videos / "YoYo" / f"v_YoYo_{name}.avi", videos)
    shards = tmp_path / "shards"
    pack_videos(plan_packing(videos.parent, ucf101_sample.splits, allow_empty_split=True), shards, workers=1)
    common = ["--data", shards, "--max-steps=1", "--set=loader.batch_size=2", "--set=evaluation.every=0"]
    common += ["--set=log_every=1"]
    teacher, student = tmp_path / "teacher", tmp_path / "student"
    commands = (
        ["pretrain", "--backbone=r3d", "--out", teacher, *common],
        ["distill", "--backbone=c3d", "--teacher", teacher, "--out", student, *common],
    )
    for command in commands:
        result = CliRunner().invoke(main, [str(word) for word in command])
        assert result.exit_code == 0, result.output
    assert sum(v.numel() for k, v in load_checkpoint(teacher).model.items() if k == "fc.weight") == 5 * 1536
    lines = [json.loads(line) for line in (student / "metrics.jsonl").read_text().splitlines()]
    (step,) = [line for line in lines if line["kind"] == "step"]
    for term in ("loss", "pretext", "contrast", "kd_pretext", "kd_contrast"):
        assert math.isfinite(step[term]) and step[term] > 0, (term, step[term])
    # Two networks that know nothing yet: the pretext loss lies near chance, ln 5.
    assert 0.5 < step["pretext"] < 4
