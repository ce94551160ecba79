"""What PCL is held against: measured once, kept, refused under other settings, and told beside the runs."""

import csv
import json
import re
import shutil
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner, Result

from pclkd.sharding.shards.index import ShardIndex
from pclkd.training.cli import main
from pclkd.training.evaluation.evaluator import Evaluator
from pclkd.training.report.report import write_report
from pclkd.training.runs.checkpoint import build_model
from pclkd.training.runs.run_folder import append_line
from pclkd.training.settings import override, preset

TINY = ["backbone.width=0.125", "loader.crop=32", "loader.batch_size=4", "seed=3"]
NAMES = ["control-motion", "control-untrained-r3d", "control-supervised-r3d"]


def controls(shards: Path, out: Path, *more: str) -> Result:
    flags = [f"--set={change}" for change in TINY]
    fixed = ["controls", "--data", str(shards), "--out", str(out), "--preset=demo", "--clips=2", "--epochs=2"]
    return CliRunner().invoke(main, [*fixed, "--batch-size=4", *flags, *more])


@pytest.fixture(scope="module")
def measured(synthetic_shards: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Result]:
    out = tmp_path_factory.mktemp("runs")
    return out, controls(synthetic_shards, out)


def test_each_control_tells_its_figures_and_what_decided_them(measured: tuple[Path, Result]) -> None:
    out, done = measured
    assert done.exit_code == 0, done.output
    assert [line.partition(":")[0] for line in done.stdout.splitlines()] == NAMES
    assert done.stderr.count("with labels: epoch") == 2
    for name in NAMES:
        assert json.loads((out / name / "env.json").read_text())["cores"] >= 1
        for protocol in ("linear", "knn", "retrieval"):
            found = json.loads((out / name / f"eval-{protocol}.json").read_text())
            assert (found["clips"], found["split"], found["protocol"]) == (2, 1, protocol)
            figures = [value for figure, value in found.items() if figure.endswith("_pct")]
            assert figures and all(0 <= value <= 100 for value in figures)
            assert all(f"{figure}_se" in found for figure in found if figure.endswith("_pct"))
    assert json.loads((out / NAMES[2] / "eval-finetune.json").read_text())["finetune_epochs"] == 2
    motion, untrained, supervised = (json.loads((out / name / "settings.json").read_text()) for name in NAMES)
    assert motion["loader"]["modality"] == "rgb" and untrained["loader"]["modality"] == "residual"
    assert supervised["finetuning"]["epochs"] == 2 and "finetuning" not in untrained


def test_the_untrained_network_is_that_of_the_seed(measured: tuple[Path, Result], synthetic_shards: Path) -> None:
    settings, device = override(preset("demo"), TINY), torch.device("cpu")
    torch.manual_seed(3)
    model = build_model(settings)
    with Evaluator(ShardIndex.open(synthetic_shards), settings, device, clips=2) as evaluator:
        wanted = evaluator.linear(*(evaluator.features(model, part) for part in ("train", "test")))
    found = json.loads((measured[0] / NAMES[1] / "eval-linear.json").read_text())
    assert found["linear_top1_pct"] == wanted["linear_top1_pct"]


def test_what_is_there_is_kept_and_what_is_not_is_made(
    measured: tuple[Path, Result], synthetic_shards: Path, tmp_path: Path
) -> None:
    out = Path(shutil.copytree(measured[0], tmp_path / "runs"))
    kept = {path: path.stat().st_mtime_ns for path in sorted(out.glob("*/*.json"))}
    lost = out / NAMES[0] / "eval-retrieval.json"
    before = lost.read_text()
    lost.unlink()  # as if killed between two evaluations
    done = controls(synthetic_shards, out)
    assert done.exit_code == 0 and "with labels" not in done.stderr
    assert done.stdout == measured[1].stdout and lost.read_text() == before
    again = {path: path.stat().st_mtime_ns for path in kept if path.parent.name != NAMES[0]}
    assert again.items() <= kept.items()


@pytest.mark.parametrize(
    ("change", "control", "told"),
    [("--set=split=2", "motion", "split = 1, not 2"), ("--lr=0.5", "supervised", "finetuning = .*not .*'lr': 0.5")],
)
def test_other_settings_are_refused(
    measured: tuple[Path, Result], synthetic_shards: Path, change: str, control: str, told: str
) -> None:
    done = controls(synthetic_shards, measured[0], change, f"--only={control}")
    assert done.exit_code == 2
    assert "Traceback" not in done.output
    assert re.search(told, done.stderr), done.stderr


def test_a_failed_attempt_does_not_bind_the_next(synthetic_shards: Path, tmp_path: Path) -> None:
    (tmp_path / NAMES[1]).mkdir()
    (tmp_path / NAMES[1] / "settings.json").write_text('{"control": "untrained", "seed": 9}')  # ended before a figure
    done = controls(synthetic_shards, tmp_path, "--only=supervised", "--batch-size=100000")
    assert done.exit_code == 2 and not (tmp_path / NAMES[2]).exists()
    for name, only in ((NAMES[2], "supervised"), (NAMES[1], "untrained")):
        done = controls(synthetic_shards, tmp_path, f"--only={only}", "--epochs=1", "--clips=1")
        assert done.exit_code == 0, done.output
        assert json.loads((tmp_path / name / "settings.json").read_text())["seed"] == 3


def test_what_decides_nothing_is_not_compared(measured: tuple[Path, Result], synthetic_shards: Path) -> None:
    done = controls(synthetic_shards, measured[0], "--set=pcl.negatives=16", "--only=untrained")
    assert done.exit_code == 0, done.output
    done = controls(synthetic_shards, measured[0], "--backbone=c3d", "--set=seed=9", "--only=motion")
    assert done.exit_code == 0, done.output  # formulas have neither


def test_the_report_shows_them_in_the_table_of_the_runs(measured: tuple[Path, Result], tmp_path: Path) -> None:
    out = Path(shutil.copytree(measured[0], tmp_path / "runs"))
    run = out / "run"
    run.mkdir()
    (run / "settings.json").write_text(json.dumps({"backbone": {"name": "r3d", "width": 0.125}}))
    append_line(run / "metrics.jsonl", {"kind": "epoch", "epoch": 1, "step": 2, "val/linear_top1_pct": 30.0})
    (run / "eval-linear.json").write_text('{"linear_top1_pct": 31.0}')
    write_report(out)
    table = (out / "report" / "table.md").read_text()
    _, _, evaluation = table.partition("| run | linear top1 % |")
    assert [line.split("|")[1].strip() for line in evaluation.splitlines() if line.startswith("| ")] == [
        "---",
        "run",
        *sorted(NAMES),
    ]
    assert not any(name in table[: table.index(evaluation)] for name in NAMES)
    with (out / "report" / "table.csv").open(newline="") as file:
        rows = {row["run"]: row for row in csv.DictReader(file)}
    found = json.loads((out / NAMES[0] / "eval-linear.json").read_text())
    assert float(rows[NAMES[0]]["eval/linear/linear_top1_pct"]) == found["linear_top1_pct"]
    assert [row["role"] for row in rows.values()] == ["alone", "control", "control", "control"]
