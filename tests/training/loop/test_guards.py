"""Stops, saves and warnings of a run, through the command line."""

import json
import math
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner, Result
from scipy import stats

from pclkd.pipeline.batch import ClipBatch
from pclkd.training.cli import main
from pclkd.training.loop.guards import non_finite, save_bundle, signs_of_collapse
from pclkd.training.loop.plan import plan_run
from pclkd.training.runs.checkpoint import load_checkpoint
from pclkd.training.settings import override, preset

TINY = [
    "--preset=demo", "--set=backbone.width=0.125", "--set=loader.crop=32", "--set=loader.batch_size=4",
    "--set=pcl.negatives=8", "--set=log_every=1",
]  # fmt: skip


def cli(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def losses(run: Path) -> list[float]:
    lines = map(json.loads, (run / "metrics.jsonl").read_text().splitlines())
    return [line["loss"] for line in lines if line["kind"] == "step"]


# --- asked to stop ---


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_a_signal_saves_exits_75_and_the_run_goes_on_bit_for_bit(
    number: int, synthetic_shards: Path, until: Any, tmp_path: Path
) -> None:
    base = ["pretrain", "--data", str(synthetic_shards), *TINY, "--epochs=400", "--set=evaluation.every=0"]
    out = tmp_path / "stopped"
    process = subprocess.Popen(
        [sys.executable, "-m", "pclkd.training.cli", *base, "--out", str(out)],
        stderr=subprocess.PIPE, text=True, cwd=tmp_path, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    until(lambda: (out / "metrics.jsonl").exists() and losses(out), process)
    process.send_signal(number)
    _, told = process.communicate()
    assert process.returncode == 75, told
    assert "can be resumed with --resume" in told
    done = load_checkpoint(out).step
    assert done == len(losses(out)) >= 1
    again = cli(*base, "--out", out, "--resume", f"--max-steps={done + 3}")
    assert again.exit_code == 0, again.output
    whole = cli(*base, "--out", tmp_path / "whole", f"--max-steps={done + 3}")
    assert whole.exit_code == 0, whole.output
    assert losses(out) == losses(tmp_path / "whole")


# --- which checkpoints are kept ---


def test_the_latest_epochs_and_the_best_are_kept(synthetic_shards: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    base = [
        "pretrain", "--data", synthetic_shards, "--out", out, *TINY, "--set=checkpoint.keep=2",
        "--set=checkpoint.best=val/linear_top1_pct", "--epochs=4", "--resume",
        "--set=evaluation.every=1", "--set=evaluation.features_every=1",
    ]  # fmt: skip
    for steps in (5, 99):
        done = cli(*base, f"--max-steps={steps}")
        assert done.exit_code == 0, done.output
    assert sorted(path.name for path in out.glob("*.pt")) == ["best.pt", "epoch-0003.pt", "epoch-0004.pt", "last.pt"]
    assert not list(out.glob("*.part"))
    assert load_checkpoint(out).epoch == 4
    assert [load_checkpoint(out / f"epoch-000{n}.pt").epoch for n in (3, 4)] == [3, 4]
    lines = [
        line for line in map(json.loads, (out / "metrics.jsonl").read_text().splitlines()) if line["kind"] == "epoch"
    ]
    measured = {line["epoch"]: line["val/linear_top1_pct"] for line in lines}
    first_best = min(epoch for epoch, value in measured.items() if value == max(measured.values()))
    best = load_checkpoint(out / "best.pt")
    assert (best.epoch, best.best) == (first_best, max(measured.values()))


def test_saves_within_an_epoch_survive_a_kill(synthetic_shards: Path, until: Any, tmp_path: Path) -> None:
    out = tmp_path / "run"
    base = ["pretrain", "--data", str(synthetic_shards), *TINY, "--epochs=400", "--set=evaluation.every=0"]
    process = subprocess.Popen(
        [sys.executable, "-m", "pclkd.training.cli", *base, "--set=checkpoint.every_steps=1", "--out", str(out)],
        stderr=subprocess.DEVNULL, cwd=tmp_path, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    until(lambda: (out / "metrics.jsonl").exists() and len(losses(out)) > 4, process)
    process.send_signal(signal.SIGKILL)
    process.wait()
    written = len(losses(out))
    # The write of the latest step may have been under way.
    assert load_checkpoint(out).step >= written - 2


# --- figures that are not finite ---


def test_a_loss_that_is_not_finite_stops_with_the_samples_and_a_bundle(synthetic_shards: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    base = [
        "pretrain",
        "--data",
        synthetic_shards,
        "--out",
        out,
        *TINY,
        "--max-steps=60",
        "--set=optimizer.weight_decay=1e30",
    ]
    done = cli(*base)
    assert done.exit_code == 2
    assert "loss is" in done.output and "samples " in done.output and "guards.non_finite=skip" in done.output
    (bundle,) = out.glob("non-finite-step-*.pt")
    content = torch.load(bundle, weights_only=True)
    assert content["clips"].shape == (4, 3, 3, 8, 32, 32)
    assert not math.isfinite(content["figures"]["loss"])
    assert not list(out.glob("*.part"))


def test_the_bundle_holds_the_batch_that_was_to_blame_though_the_next_step_was_made(
    synthetic_shards: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    sets = ["optimizer.weight_decay=1e30", "optimizer.schedule=step", "checkpoint.every_steps=1"]
    base = ["pretrain", "--data", synthetic_shards, "--out", out, *TINY, "--epochs=3"]
    done = cli(*base, *(f"--set={one}" for one in sets))
    # Three steps an epoch. The first loss is that of fresh weights; its update ruins them.
    assert done.exit_code == 2 and "step 2: " in done.output, done.output
    content = torch.load(out / "non-finite-step-0000002.pt", weights_only=True)
    assert (content["step"], content["epoch"]) == (2, 0)
    settings = override(preset("demo"), [one.removeprefix("--set=") for one in TINY[1:]] + sets)
    plan = plan_run(tmp_path / "same", synthetic_shards, settings)
    with plan.loader(torch.device("cpu")) as loader:
        second = list(loader.epoch(0))[1]
    assert torch.equal(content["sample_index"], second.sample_index)
    assert torch.equal(content["clips"], second.clips)
    # The checkpoint of step 1, whose figures were finite; none of a later step.
    assert load_checkpoint(out).step == 1
    assert load_checkpoint(out).epoch_sums["loss"] == [losses(out)[0], 1.0] and len(losses(out)) == 1


def test_a_run_that_skips_goes_on_and_counts(synthetic_shards: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    base = ["pretrain", "--data", synthetic_shards, "--out", out, *TINY, "--epochs=2"]
    done = cli(*base, "--set=optimizer.weight_decay=1e30", "--set=guards.non_finite=skip")
    assert done.exit_code == 0, done.output
    assert "the update is left out" in done.stderr
    lines = [
        line for line in map(json.loads, (out / "metrics.jsonl").read_text().splitlines()) if line["kind"] == "epoch"
    ]
    assert lines[-1]["train/skipped_updates"] >= 1


def test_bundles_hold_what_the_step_learned_from(tmp_path: Path) -> None:
    batch = ClipBatch(
        torch.randn(2, 3, 3, 2, 4, 4), torch.tensor([1, 2]), torch.tensor([7, 9]), torch.zeros(2).long(), 5, 2
    )
    assert non_finite({"a": 1.0, "b": math.nan, "c": -math.inf}) == ["b", "c"]
    path = save_bundle(tmp_path, 12, {"loss": math.nan}, [batch, batch])
    content = torch.load(path, weights_only=True)
    assert (content["step"], content["epoch"]) == (12, 5)
    assert content["sample_index"].tolist() == [7, 9, 7, 9]
    assert torch.equal(content["clips"][2:], batch.clips)


# --- collapse ---


def test_a_collapse_is_warned_of_where_embeddings_are_learned() -> None:
    settings = preset("demo")
    assert signs_of_collapse({"embedding_spread": 0.9, "agreement_pct": 60, "contrast": 8.3}, 5, 12, 32, settings) == []
    (spread,) = signs_of_collapse({"embedding_spread": 0.01, "contrast": 2.0}, 5, 12, 32, settings)
    assert "0.010" in spread and "collapse" in spread and "optimizer.lr" in spread
    assert signs_of_collapse({"embedding_spread": 0.01, "pretext": 1.0}, 5, 12, 32, settings) == []
    for learner in ("moco", "simsiam", "byol", "vicreg", "barlow_twins"):
        learned = override(settings, [f"pcl.learner={learner}"])
        assert len(signs_of_collapse({"embedding_spread": 0.01, learner: 1.0}, 5, 12, 32, learned)) == 1


def test_agreement_below_chance_is_warned_of_where_that_is_no_accident() -> None:
    settings = preset("demo")
    (agreement,) = signs_of_collapse({"embedding_spread": 0.5, "agreement_pct": 12}, 5, 12, 32, settings)
    assert "12 %" in agreement and "20 %" in agreement
    assert signs_of_collapse({"agreement_pct": 12}, 0, 12, 32, settings) == []
    for right in range(28):  # as many answers by chance, or fewer
        warned = signs_of_collapse({"agreement_pct": 100 * right / 27}, 5, 3, 9, settings)
        assert bool(warned) == (stats.binom.cdf(right, 27, 0.2) < 0.05)


@pytest.mark.parametrize(
    ("changes", "figures", "told"),
    [
        # 2 ln 65 = 8.349; 7.9 is more than a twentieth below.
        (
            [],
            {"contrast": 8.3},
            ["at chance (8.30, 2 ln(1 + 64) = 8.35)", "the bank remembers", "=network, or --set pcl.contrast=in_batch"],
        ),
        ([], {"contrast": 7.9}, ["optimizer.lr"]),
        (["pcl.contrast=queue", "pcl.queue_size=255"], {"contrast": 11.0}, ["2 ln(1 + 255) = 11.09", "the queue"]),
        (["pcl.bank_start=network"], {"contrast": 8.3}, ["of the videos yet: --set pcl.contrast=in_batch"]),
        (["pcl.contrast=in_batch"], {"contrast": 8.3}, ["optimizer.lr (0.01 here)", "nce_temperature (0.07 here)"]),
        (
            ["pcl.contrast=in_batch", "optimizer.reference_batch=32"],
            {"contrast": 8.3},
            ["optimizer.lr (0.01 here, 0.0025 for a batch of 8)"],
        ),
        # A teacher that is uniform is named first, and only where its distribution is still imitated.
        (
            ["kd.contrast_teacher_temperature=0.05"],
            {"contrast": 8.3, "teacher_entropy_contrast": 0.2, "teacher2_entropy_contrast": 0.97},
            ["uniform to 0.970", "kd.contrast_weight=0", "(0.05 here)"],
        ),
        ([], {"contrast": 8.3, "teacher_entropy_contrast": 0.5}, ["at chance"]),
        ([], {"contrast": 1.0, "teacher_entropy_pretext": 0.99}, ["optimizer.lr"]),
    ],
)
def test_a_collapse_has_its_cause_and_a_remedy(changes: list[str], figures: dict[str, float], told: list[str]) -> None:
    settings = override(preset("pcl"), ["pcl.negatives=64", *changes])
    (warning,) = signs_of_collapse({"embedding_spread": 0.01, **figures}, 5, 12, 8, settings)
    assert all(part in warning for part in told), warning


def test_a_collapsed_run_is_warned_of(synthetic_shards: Path, tmp_path: Path) -> None:
    base = ["pretrain", "--data", synthetic_shards, "--out", tmp_path / "run", *TINY, "--epochs=1"]
    done = cli(*base, "--set=guards.least_spread=1")
    assert done.exit_code == 0 and "the embeddings collapse" in done.stderr
