"""A student taught by weights that were trained elsewhere, through the command line."""

import json
from pathlib import Path

import pytest
import torch
import torchvision
from click.testing import CliRunner, Result

from pclkd.training.cli import main
from pclkd.training.models.pcl_model import PclModel
from pclkd.training.models.registry import build_backbone

TINY = [
    "--preset=demo",
    "--max-steps=1",
    "--backbone=c3d",
    "--set=backbone.width=0.125",
    "--set=loader.crop=32",
    "--set=loader.batch_size=2",
    "--set=pcl.negatives=8",
    "--set=evaluation.every=0",
    "--set=log_every=1",
]


def distill(data: Path, out: Path, teacher: Path, *more: str) -> Result:
    arguments = ["distill", "--data", str(data), "--out", str(out), "--teacher", str(teacher), *TINY, *more]
    return CliRunner().invoke(main, arguments)


def test_a_published_checkpoint_teaches_with_all_terms(synthetic_shards: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    state = PclModel(build_backbone("r3d")).state_dict()
    both = {f"module.{name}.{key}": value for name in ("encoder_q", "encoder_k") for key, value in state.items()}
    torch.save({"state_dict": both}, tmp_path / "published.pt")
    unsaid = distill(synthetic_shards, tmp_path / "run", tmp_path / "published.pt")
    assert unsaid.exit_code == 2
    assert "--teacher-key, such as state_dict.module.encoder_q" in unsaid.output
    twice = ["--teacher-key=a"] * 2
    assert "2 teacher keys for 1 teachers" in distill(synthetic_shards, tmp_path / "run", tmp_path, *twice).output
    key = "--teacher-key=encoder_k"
    done = distill(synthetic_shards, tmp_path / "run", tmp_path / "published.pt", key)
    assert done.exit_code == 0, done.output
    (step,) = [
        record
        for record in map(json.loads, (tmp_path / "run" / "metrics.jsonl").read_text().splitlines())
        if record["kind"] == "step"
    ]
    assert step["kd_pretext"] > 0 and step["kd_contrast"] > 0


@pytest.mark.parametrize(("weight", "head"), [("pretext", "pretext classifier"), ("contrast", "projector")])
def test_terms_that_need_a_missing_head_are_refused(
    weight: str, head: str, synthetic_shards: Path, tmp_path: Path
) -> None:
    torch.save(torchvision.models.video.r3d_18().state_dict(), tmp_path / "r3d_18.pth")
    other = "contrast" if weight == "pretext" else "pretext"
    done = distill(synthetic_shards, tmp_path / "run", tmp_path / "r3d_18.pth", f"--set=kd.{other}_weight=0")
    assert done.exit_code == 2
    assert f"has no {head}" in done.output and f"--set kd.{weight}_weight=0" in done.output
    assert not (tmp_path / "run").exists()


def test_several_teachers_with_every_term_resume_bit_for_bit(synthetic_shards: Path, tmp_path: Path) -> None:
    for number, name in enumerate(("r3d", "r2plus1d")):
        torch.manual_seed(number)
        torch.save(PclModel(build_backbone(name)).state_dict(), tmp_path / f"{name}.pt")
    more = [
        "--teacher", str(tmp_path / "r2plus1d.pt"), "--set=pcl.contrast=queue", "--set=pcl.queue_size=6",
        "--set=kd.feature_weight=1", "--set=kd.relation_weight=1", "--set=kd.relation_queue=5",
        "--set=kd.teacher_every=2",
    ]  # fmt: skip
    whole = distill(synthetic_shards, tmp_path / "whole", tmp_path / "r3d.pt", *more, "--max-steps=3")
    assert whole.exit_code == 0, whole.output
    for steps in (1, 3):
        done = distill(
            synthetic_shards, tmp_path / "parts", tmp_path / "r3d.pt", *more, f"--max-steps={steps}", "--resume"
        )
        assert done.exit_code == 0, done.output
    losses = [
        {
            record["step"]: {name: record[name] for name in record if name.startswith(("loss", "pretext", "kd_"))}
            for record in map(json.loads, (tmp_path / run / "metrics.jsonl").read_text().splitlines())
            if record["kind"] == "step"
        }
        for run in ("whole", "parts")
    ]
    assert losses[0] == losses[1]
    assert {"kd_pretext", "kd_contrast", "kd_feature", "kd_relation"} < set(losses[0][3])
    assert not any(name.startswith("kd_") for name in losses[0][2])
    fewer = distill(synthetic_shards, tmp_path / "parts", tmp_path / "r3d.pt", *more[2:], "--resume")
    assert fewer.exit_code == 2 and "was started with 2 teacher(s), not 1" in fewer.output
