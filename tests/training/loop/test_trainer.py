"""The trainer end to end on small networks: resume, several processes, real files, wrong input."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner, Result

from pclkd.training import load_backbone
from pclkd.training.cli import main
from pclkd.training.evaluation.evaluator import Evaluator
from pclkd.training.runs.checkpoint import load_checkpoint

TINY = [
    "--preset=demo",
    "--set=backbone.width=0.125",
    "--set=loader.crop=32",
    "--set=loader.batch_size=4",
    "--set=pcl.contrast=bank",
    "--set=pcl.contrast_weight=0.5",
    "--set=pcl.negatives=8",
    "--set=kd.feature_weight=0",
    "--set=kd.fade_epochs=0",
    "--set=optimizer.schedule=cosine",
    "--set=log_every=1",
]


def cli(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def run(*arguments: object) -> None:
    result = cli(*arguments)
    assert result.exit_code == 0, result.output
    assert result.exception is None


def steps(folder: Path) -> dict[int, dict[str, float]]:
    """Losses by step, the last line of a step counting."""
    names = ("loss", "pretext", "contrast", "kd_pretext", "kd_contrast")
    records = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return {
        record["step"]: {name: record[name] for name in names if name in record}
        for record in records
        if record["kind"] == "step"
    }


def epochs(folder: Path) -> list[dict[str, float]]:
    records = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [record for record in records if record["kind"] == "epoch"]


@pytest.fixture(scope="module")
def teacher(synthetic_shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "teacher"
    run("pretrain", "--data", synthetic_shards, "--out", folder, "--epochs=2", *TINY)
    return folder


def test_a_run_leaves_all_its_files(teacher: Path) -> None:
    names = {path.name for path in teacher.iterdir()}
    assert names == {"settings.json", "env.json", "metrics.jsonl", "answers.jsonl", "tensorboard", "last.pt"}
    assert [record["epoch"] for record in epochs(teacher)] == [0, 1, 2]
    last = epochs(teacher)[-1]
    recalls = (f"retrieval_r{k}" for k in (1, 5, 10))
    for name in ("pretext_top1", "linear_top1", "knn_top1", *recalls):
        assert 0 <= last[f"val/{name}_pct"] <= 100
        assert 0 <= last[f"val/{name}_pct_se"] <= 50
    assert any(name.startswith("val/pretext_class") for name in last)
    assert last["throughput/clips_per_s"] > 0 and last["data/quarantined_samples"] == 0
    assert any((teacher / "tensorboard").iterdir())
    settings = json.loads((teacher / "settings.json").read_text())
    assert settings["backbone"] == {"name": "r3d", "width": 0.125} and settings["teacher"] is None
    told = json.loads((teacher / "env.json").read_text())
    assert told["omp_threads"] == torch.get_num_threads() and told["others_busy_cores_at_start"] >= 0
    assert told["omp_wait_policy"] == os.environ.get("OMP_WAIT_POLICY", "default")


def test_a_trained_backbone_is_a_module(teacher: Path) -> None:
    backbone = load_backbone(teacher)
    assert not backbone.training
    with torch.no_grad():
        features = backbone(torch.randn(2, 3, 8, 32, 32))
    assert features.shape == (2, 64) and features.isfinite().all()


@pytest.mark.parametrize("student", ["r3d", "c3d", "r2plus1d"])
def test_distillation_across_architectures(synthetic_shards: Path, teacher: Path, tmp_path: Path, student: str) -> None:
    before = torch.load(teacher / "last.pt", weights_only=True)["model"]
    folder = tmp_path / "student"
    run(
        "distill",
        "--data",
        synthetic_shards,
        "--teacher",
        teacher,
        "--backbone",
        student,
        "--out",
        folder,
        "--epochs=1",
        *TINY,
    )
    for losses in steps(folder).values():
        assert set(losses) == {"loss", "pretext", "contrast", "kd_pretext", "kd_contrast"}
        kd = losses["pretext"] + 0.5 * losses["contrast"] + losses["kd_pretext"] + losses["kd_contrast"]
        assert losses["loss"] == pytest.approx(kd, rel=1e-5)
    checkpoint = load_checkpoint(folder)
    assert set(checkpoint.memory) == {"student", "teacher", "hearing kd_pretext", "hearing kd_contrast"}
    assert not any("teacher" in name for name in checkpoint.model)
    after = torch.load(teacher / "last.pt", weights_only=True)["model"]
    assert all(torch.equal(before[name], after[name]) for name in before)


@pytest.mark.parametrize("kind", ["pretrain", "distill", "self"])
@pytest.mark.parametrize("stop", [2, 3, 5])
def test_resuming_gives_the_losses_of_an_uninterrupted_run(
    synthetic_shards: Path, teacher: Path, tmp_path: Path, kind: str, stop: int
) -> None:
    # 12 training videos, batch 4: 3 steps an epoch. Stops lie within an epoch and at its end.
    how = {"pretrain": ["pretrain"], "distill": ["distill", "--teacher", teacher]}
    how["self"] = ["distill", "--set=kd.self_teacher=true"]
    command = [*how[kind], "--data", synthetic_shards, "--epochs=2", *TINY]
    run(*command, "--out", tmp_path / "whole")
    run(*command, "--out", tmp_path / "parts", "--max-steps", stop)
    assert max(steps(tmp_path / "parts")) == stop
    run(*command, "--out", tmp_path / "parts", "--resume")
    assert steps(tmp_path / "parts") == steps(tmp_path / "whole")
    taught = [step for step, losses in steps(tmp_path / "whole").items() if "kd_contrast" in losses]
    assert taught == {"pretrain": [], "distill": [1, 2, 3, 4, 5, 6], "self": [4, 5, 6]}[kind]
    whole, parts = load_checkpoint(tmp_path / "whole"), load_checkpoint(tmp_path / "parts")
    assert all(torch.equal(whole.model[name], parts.model[name]) for name in whole.model)
    timed = ("throughput/", "time/", "loader/")
    ends = [epochs(tmp_path / run)[-1] for run in ("whole", "parts")]
    final = [{name: value for name, value in end.items() if not name.startswith(timed)} for end in ends]
    assert final[0] == final[1]


def test_with_a_cosine_the_length_is_part_of_the_run(synthetic_shards: Path, teacher: Path) -> None:
    refused = cli("pretrain", "--data", synthetic_shards, "--out", teacher, "--resume", "--epochs=3", *TINY)
    assert refused.exit_code == 2 and "epochs = 2, not 3" in refused.output


def test_two_processes_train_the_same_banks_and_weights(synthetic_shards: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    command = [
        *(sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"),
        *("-m", "pclkd.training.cli", "pretrain", "--data", str(synthetic_shards), "--out", str(out), "--epochs=2"),
        *TINY,
        *("--set=loader.batch_size=2", "--set=checkpoint.every_steps=2", "--set=pcl.bank_start=network"),
    ]
    finished = subprocess.run(
        command, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"}, cwd=tmp_path
    )
    assert finished.returncode == 0, finished.stderr[-2000:]
    assert [record["epoch"] for record in epochs(out)] == [0, 1, 2]
    assert finished.stderr.count("the embeddings of 12 of 12 videos") == 1
    alone = tmp_path / "alone"
    run("pretrain", "--data", synthetic_shards, "--out", alone, "--epochs=2", *TINY)
    # The same samples a step: the first loss agrees as far as batch norm over half a batch lets it.
    assert max(steps(out)) == max(steps(alone)) == 6
    touched = [load_checkpoint(folder).memory["student"]["first"] for folder in (out, alone)]
    assert touched[0].shape == touched[1].shape
    assert torch.allclose(touched[0].norm(dim=1), torch.ones(len(touched[0])), atol=1e-5)


def test_evaluation_writes_its_figures(synthetic_shards: Path, teacher: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(teacher, tmp_path / "run"))
    wanted = {"pretext": "pretext_top1_pct", "linear": "linear_top1_pct", "retrieval": "retrieval_r50_pct"}
    for protocol, figure in wanted.items():
        run("evaluate", folder, "--data", synthetic_shards, "--protocol", protocol, "--clips=2")
        written = json.loads((folder / f"eval-{protocol}.json").read_text())
        assert 0 <= written[figure] <= 100 and written["split"] == 1
        assert written["epoch"] == 2
    # The run measured itself with the same clips at its end.
    again = json.loads((folder / "eval-linear.json").read_text())["linear_top1_pct"]
    assert again == pytest.approx(epochs(teacher)[-1]["val/linear_top1_pct"])


def test_features_are_measured_on_a_schedule_of_their_own(synthetic_shards: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    every = ["--set=evaluation.every=1", "--set=evaluation.features_every=2"]
    run("pretrain", "--data", synthetic_shards, "--out", out, *TINY, "--epochs=3", *every)
    found = epochs(out)
    assert ["val/pretext_top1_pct" in line for line in found] == [True] * 4
    for name in ("linear_top1", "knn_top1", "retrieval_r1"):
        assert [f"val/{name}_pct" in line for line in found] == [True, False, True, True]  # the last one always


def test_several_protocols_share_the_features(
    synthetic_shards: Path, teacher: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    features = Evaluator.features
    monkeypatch.setattr(Evaluator, "features", lambda *given, **how: asked.append(given[2]) or features(*given, **how))
    folder = Path(shutil.copytree(teacher, tmp_path / "run"))
    protocols = ["linear", "knn", "retrieval"]
    run("evaluate", folder, "--data", synthetic_shards, "--clips=2", *(f"--protocol={name}" for name in protocols))
    assert asked == ["train", "test"]
    together = {name: (folder / f"eval-{name}.json").read_text() for name in protocols}
    for name in protocols:
        run("evaluate", folder, "--data", synthetic_shards, "--clips=2", "--protocol", name)
        assert (folder / f"eval-{name}.json").read_text() == together[name]


def test_print_config_starts_nothing(tmp_path: Path) -> None:
    for command in ("pretrain", "distill"):
        result = cli(command, "--print-config", "--preset=demo", "--out", tmp_path / "run")
        assert result.exit_code == 0 and "backbone.width = 0.25" in result.output
    assert not (tmp_path / "run").exists()


def test_bf16_trains_close_to_float32_or_is_refused(synthetic_shards: Path, tmp_path: Path) -> None:
    base = ["pretrain", "--data", synthetic_shards, *TINY, "--max-steps=2"]
    run(*base, "--out", tmp_path / "fp32", "--set=precision=fp32")
    done = cli(*base, "--out", tmp_path / "bf16", "--set=precision=bf16")
    if done.exit_code == 2:  # this machine's bf16 convolutions are wrong, and the self-check found out
        assert "conv3d in bf16 is off" in done.output
        assert not (tmp_path / "bf16").exists()
        return
    fp32, bf16 = (steps(tmp_path / name)[1] for name in ("fp32", "bf16"))
    assert fp32 != bf16
    assert bf16["pretext"] == pytest.approx(fp32["pretext"], rel=0.05)
