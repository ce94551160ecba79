"""Every teacher with every student, and every backbone on eight real videos."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result

from pclkd.pipeline import UniformRecipe, clip_loader
from pclkd.sharding.shards.index import ShardIndex
from pclkd.training.cli import main
from pclkd.training.evaluation.probes import linear_probe
from pclkd.training.models.pcl_model import PclModel
from pclkd.training.models.registry import build_backbone
from pclkd.training.objective.objective import Objective
from pclkd.training.settings import override, preset

BACKBONES = ("c3d", "r3d", "r2plus1d")
TINY = [
    "--preset=demo", "--set=backbone.width=0.125", "--set=loader.crop=32", "--set=loader.batch_size=4",
    "--set=pcl.negatives=8", "--set=evaluation.every=0", "--epochs=1",
]  # fmt: skip


def cli(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def teachers(synthetic_shards: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("teachers")
    for name in BACKBONES:
        done = cli("pretrain", "--data", synthetic_shards, "--out", root / name, "--backbone", name, *TINY)
        assert done.exit_code == 0, done.output
    return {name: root / name for name in BACKBONES}


@pytest.mark.parametrize("student", BACKBONES)
@pytest.mark.parametrize("teacher", BACKBONES)
def test_every_teacher_teaches_every_student(
    teacher: str, student: str, teachers: dict[str, Path], synthetic_shards: Path, tmp_path: Path
) -> None:
    base = ["distill", "--data", synthetic_shards, "--out", tmp_path / "run", "--teacher", teachers[teacher]]
    done = cli(*base, "--backbone", student, *TINY)
    assert done.exit_code == 0, done.output
    last = json.loads((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()[-1])
    assert last["kind"] == "epoch" and last["epoch"] == 1
    assert all(np.isfinite(last[f"train/{term}"]) for term in ("loss", "kd_pretext", "kd_contrast"))


@pytest.mark.real_videos
@pytest.mark.parametrize("name", ["c3d", "r3d", "r2plus1d", "r3d18", "r2plus1d18"])
def test_eight_real_videos_are_learned_by_heart(name: str, real_shards: Path) -> None:
    torch.set_num_threads(1)
    index = ShardIndex.open(real_shards)
    samples = np.sort(np.random.default_rng(0).permutation(len(index))[:8])
    settings = override(preset("demo"), ["loader.crop=48", "loader.batch_size=8", "loader.modality=rgb"])
    data = {"config": settings, "samples": samples, "device": torch.device("cpu")}
    torch.manual_seed(0)
    student = PclModel(build_backbone(name, 0.125))
    objective = Objective(student, len(samples), settings.pcl, seed=0).train()
    optimizer = torch.optim.SGD(student.parameters(), lr=0.02, momentum=0.9)
    with clip_loader(index, **data, augment=None) as loader:
        (batch,) = loader.epoch(0)
    assert len(set(batch.pretext_label.tolist())) > 1
    for step in range(80):
        losses = objective(batch)
        optimizer.zero_grad()
        losses["loss"].backward()
        optimizer.step()
        if step > 20 and losses["pretext_top1_pct"] == 100 and losses["pretext"] < 0.05:
            break
    assert losses["pretext_top1_pct"] == 100
    student.train()  # batch statistics: the running ones are of the steps before
    with torch.no_grad():
        logits = student(batch.clips).pretext_logits
    assert (logits.argmax(1) == batch.pretext_label).all()
    uniform = UniformRecipe(views=2, clip_frames=settings.tuples.clip_frames)
    with clip_loader(index, **data, recipe=uniform, shuffle=False) as loader, torch.no_grad():
        (clips,) = loader.epoch(0)
        features = student.features(clips.clips).mean(1)
    # Each video a class of its own: the features must tell all eight apart.
    identity = torch.arange(len(samples))
    assert linear_probe(features, identity, features, identity, classes=len(samples), penalty=1e-4).all()
