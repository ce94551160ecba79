"""Trackers in their offline modes: settings and figures of a run arrive, and a resumed run goes on in the same one."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from pclkd.sharding.common.errors import InputError
from pclkd.training.cli import main
from pclkd.training.loop import tracking
from pclkd.training.runs.run_folder import read_run

OPTIONS = [
    "--preset=demo", "--set=backbone.width=0.125", "--set=loader.batch_size=4", "--set=evaluation.every=0",
    "--set=log_every=1", "--epochs=1",
]  # fmt: skip


def train(shards: Path, run: Path, *options: object) -> None:
    words = ["pretrain", "--data", shards, "--out", run, *OPTIONS, *options]
    done = CliRunner().invoke(main, [str(word) for word in words])
    assert done.exit_code == 0 and "warning:" not in done.output, done.output


def test_mlflow_has_settings_and_figures_of_both_sittings_in_one_run(
    synthetic_shards: Path, tmp_path: Path, monkeypatch
) -> None:
    pytest.importorskip("mlflow")
    from mlflow import MlflowClient

    run, where = tmp_path / "run", (tmp_path / "runs-of-mlflow").as_uri()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", where)
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    train(synthetic_shards, run, "--track=mlflow", "--max-steps=1")
    train(synthetic_shards, run, "--track=mlflow", "--resume")
    client = MlflowClient(tracking_uri=where)
    experiment = client.get_experiment_by_name("pclkd")
    (found,) = client.search_runs([experiment.experiment_id])
    assert found.info.run_name == "run" and found.info.status == "FINISHED"
    assert found.data.params["backbone.width"] == "0.125" and found.data.params["optimizer.lr"] == "0.05"
    steps = read_run(run).steps
    assert len(steps) == 3
    logged = client.get_metric_history(found.info.run_id, "step/loss")
    assert [(metric.step, metric.value) for metric in logged] == [(step["step"], step["loss"]) for step in steps]
    assert found.data.metrics["train/loss"] == read_run(run).epochs[-1]["train/loss"]


def test_wandb_goes_on_with_the_run_that_it_began(synthetic_shards: Path, tmp_path: Path, monkeypatch) -> None:
    wandb = pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    run = tmp_path / "run"
    train(synthetic_shards, run, "--track=wandb", "--max-steps=1")
    name = json.loads((run / "tracking.json").read_text())["wandb"]
    train(synthetic_shards, run, "--track=wandb", "--resume")
    assert json.loads((run / "tracking.json").read_text()) == {"wandb": name}
    wandb.teardown()
    files = sorted(run.glob(f"wandb/offline-run-*-{name}/run-{name}.wandb"))
    assert len(files) == 2  # sittings, which "wandb sync" puts together: they have one name
    for file, steps in zip(files, ([1], [2, 3]), strict=True):
        content = file.read_bytes()
        assert b"backbone.width" in content
        for step in read_run(run).steps:
            assert (repr(step["loss"]).encode() in content) == (step["step"] in steps)


def test_a_tracker_that_fails_costs_itself_alone(tmp_path: Path, monkeypatch, capsys) -> None:
    class Failing:
        run_id = "x"
        calls = 0

        def __init__(self, *_: object) -> None:
            pass

        def write(self, *_: object) -> None:
            Failing.calls += 1
            raise ConnectionError("no route to host\nand more")

        def close(self) -> None:
            raise AssertionError

    monkeypatch.setitem(tracking._TRACKERS, "mlflow", Failing)
    found = tracking.open_tracker("mlflow", tmp_path, {}, resumed=False)
    for step in range(3):
        found.write({"loss": 1.0}, step)
    found.close()
    told = " ".join(capsys.readouterr().err.split())
    assert told.count("mlflow fails (no route to host)") == 1 and Failing.calls == 1
    assert tracking.open_tracker("none", tmp_path, {}, resumed=False) is None


@pytest.mark.parametrize("notes", ['{"mlflow": "x', '["x"]'])
def test_damaged_notes_cost_the_tracker_alone(notes: str, tmp_path: Path, capsys) -> None:
    (tmp_path / "tracking.json").write_text(notes)
    assert tracking.open_tracker("mlflow", tmp_path, {}, resumed=True) is None
    told = " ".join(capsys.readouterr().err.split())
    assert "warning: mlflow fails" in told and "tracking.json" in told and "the run goes on without it" in told


def test_one_that_is_not_installed_is_told_before_training(monkeypatch) -> None:
    monkeypatch.setattr(tracking.importlib.util, "find_spec", lambda _: None)
    tracking.check_tracker("none")
    with pytest.raises(InputError, match=r"track=wandb needs the package wandb - pip install 'pclkd\[wandb\]'"):
        tracking.check_tracker("wandb")
