"""A small study with real runs: whole, killed and continued, by one process and by two."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from disturbance import SEED

from pclkd.training.cli import main
from pclkd.training.findings.report import write_study_report
from pclkd.training.runs.checkpoint import load_checkpoint
from pclkd.training.runs.run_folder import read_run
from pclkd.training.study.estimate import Calibration, seconds_of
from pclkd.training.study.plan import Study
from pclkd.training.study.study import StudyFolder

EPOCHS = 3
TINY = (
    *("backbone.width=0.125", "loader.crop=32", "loader.batch_size=4", "pcl.negatives=8"),
    *(f"evaluation.every={EPOCHS}", "evaluation.clips=2", "log_every=1"),
)
ASKED = [
    *("--preset=demo", *(f"--set={change}" for change in TINY), f"--epochs={EPOCHS}"),
    *("--pairs=c3d+r3d:c3d", "--terms=recipe,self", "--widths=.5"),
]
TEACHER, OTHER = (f"baseline-{name}-f0.67-s0" for name in ("c3d", "r3d"))
STUDENT, ALONE = (f"student-c3d-x0.5-{how}-f0.67-s1" for how in ("from-c3d+r3d-recipe", "self"))
CONTROL = "control-c3d-x0.5-f0.67-s1"
RUNS = (TEACHER, OTHER, STUDENT, ALONE, CONTROL)


def arguments(shards: Path | str, out: Path, *more: str) -> list[str]:
    return ["study", f"--data={shards}", f"--out={out}", *ASKED, "--fractions=.67", *more]


def begin(shards: Path, out: Path, *more: str) -> "subprocess.Popen[str]":
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "pclkd.training.cli", *arguments(shards, out, *more)]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def asked(*options: str) -> Result:
    return CliRunner().invoke(main, list(options))


def learned(folder: Path) -> list[dict[str, Any]]:
    """What each epoch gave, without what depends on the clock."""
    return [
        {name: value for name, value in line.items() if name.startswith(("train/", "epoch"))}
        for line in read_run(folder).epochs
    ]


@pytest.fixture(scope="module")
def whole(synthetic_shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study whose control failed at first."""
    out = tmp_path_factory.mktemp("study") / "whole"
    out.mkdir()
    (out / CONTROL).write_text("a file in place of the folder")
    failing = begin(synthetic_shards, out, "--jobs=2")
    told, _ = failing.communicate()
    assert failing.returncode == 1, told
    assert f"{CONTROL}: failed with exit code" in told and "4 done, 1 failed" in told
    assert load_checkpoint(out / STUDENT).epoch == EPOCHS
    before = (out / STUDENT / "last.pt").stat().st_mtime_ns
    (out / CONTROL).unlink()
    mended = begin(synthetic_shards, out, "--jobs=2")
    told, _ = mended.communicate()
    assert mended.returncode == 0 and "5 done" in told, told
    assert (out / STUDENT / "last.pt").stat().st_mtime_ns == before
    return out


def test_a_study_leaves_its_plan_and_ordinary_runs(whole: Path) -> None:
    plan = json.loads((whole / "study.json").read_text())
    assert (plan["version"], plan["preset"], plan["epochs"], plan["seeds"]) == (1, "demo", EPOCHS, [0])
    assert plan["runs"] == [
        {
            "name": name,
            "kind": name.partition("-")[0],
            "backbone": "r3d" if name == OTHER else "c3d",
            "teacher": TEACHER if name == STUDENT else None,
            "seed": 0 if name in (TEACHER, OTHER) else 1,
            "group": 0,
            "fraction": 0.67,
            "terms": {STUDENT: "recipe", ALONE: "self"}.get(name, "none"),
            "width": 1.0 if name in (TEACHER, OTHER) else 0.5,
            "other_teachers": [OTHER] if name == STUDENT else [],
        }
        for name in RUNS
    ]
    for name in RUNS:
        checkpoint = load_checkpoint(whole / name)
        assert (checkpoint.epoch, checkpoint.rows, checkpoint.step) == (EPOCHS, 8, 2 * EPOCHS)  # 8 of 12 videos
    for name in RUNS:
        taught = [line["epoch"] for line in learned(whole / name) if "train/kd_contrast" in line]
        assert taught == {STUDENT: [1, 2, 3], ALONE: [2, 3]}.get(name, [])
    assert len(json.loads((whole / STUDENT / "settings.json").read_text())["teachers"]) == 2
    assert list((whole / "locks").iterdir()) == []


def ended_epochs(run: Path) -> list[int]:
    file = run / "metrics.jsonl"
    lines = [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []
    return [line["epoch"] for line in lines if line["kind"] == "epoch"]


def written_epochs(out: Path) -> int:
    return sum(file.read_text().count('"kind": "epoch"') for file in out.glob("*/metrics.jsonl"))


def test_a_study_stopped_three_times_ends_with_the_same_tables(
    whole: Path, synthetic_shards: Path, tmp_path: Path
) -> None:
    out, rng = tmp_path / "stopped", random.Random(f"{SEED}/study")
    print(f"PCLKD_FAULT_SEED={SEED}")
    for number in (signal.SIGKILL, signal.SIGKILL, rng.choice([signal.SIGTERM, signal.SIGINT])):
        before = written_epochs(out)
        process = begin(synthetic_shards, out, "--jobs=2")
        end = time.monotonic() + 600
        while written_epochs(out) == before:
            assert time.monotonic() < end and process.poll() is None
            time.sleep(0.02)
        time.sleep(rng.uniform(0, 1.5))
        process.send_signal(number)
        told, _ = process.communicate(timeout=600)
        assert process.returncode == (-number if number == signal.SIGKILL else os.EX_TEMPFAIL), told
    # Two hosts go on, as far as one machine can show it. A killed run may repeat what it had logged and not yet saved.
    logged = {name: len(ended_epochs(out / name)) for name in RUNS}
    both = [begin(synthetic_shards, out) for _ in range(2)]
    for process in both:
        told, _ = process.communicate()
        assert process.returncode == 0 and "5 done" in told, told
    for name in RUNS:
        assert learned(out / name) == learned(whole / name)
        ends = ended_epochs(out / name)[logged[name] :]
        assert ends == sorted(set(ends))  # neither did what the other one had done
    assert json.loads((out / "study.json").read_text()) == json.loads((whole / "study.json").read_text())
    reports = [write_study_report(shutil.copytree(study, tmp_path / f"{study.name}-copy")) for study in (whole, out)]
    tables = [{file.name: file.read_bytes() for file in page.parent.iterdir() if file != page} for page in reports]
    assert {"study.md", "students.csv", "figure-3.png"} < set(tables[0]) and tables[0] == tables[1]


def test_what_a_small_device_makes_of_it(whole: Path, synthetic_shards: Path, tmp_path: Path) -> None:
    study = shutil.copytree(whole, tmp_path / "study")
    shown = asked(*arguments(synthetic_shards, study, "--latency"))
    assert shown.exit_code == 0 and "6 done" in shown.output, shown.output
    told = json.loads((study / "latency.json").read_text())
    assert [(found["network"], found["precision"]) for found in told["networks"]] == [
        ("C3D ×0.5", "float"),
        ("C3D ×0.5", "int8"),
    ]
    sizes = [found["bytes"] for found in told["networks"]]
    assert sizes[1] < sizes[0] and all(len(found["ms"]) == 50 and min(found["ms"]) > 0 for found in told["networks"])
    assert told["clip"] == [3, 8, 32, 32] and told["rounds"] == 50
    assert {file.parent.name for file in study.glob("*/onnx.json")} == {STUDENT, CONTROL}  # what the report compares
    for name in (STUDENT, CONTROL):
        found, last = json.loads((study / name / "onnx.json").read_text()), read_run(study / name).epochs[-1]
        for figure in ("linear_top1_pct", "retrieval_r1_pct"):
            # The same clips through the same weights: all but what rounding tips over, of 4 videos.
            assert abs(found["float"][figure] - last[f"val/{figure}"]) <= 25
            assert 0 <= found["int8"][figure] <= 100
    before = {file: file.stat().st_mtime_ns for file in study.glob("*/onnx.json")}
    again = asked("latency", str(study), f"--data={synthetic_shards}", "--rounds=3")
    assert again.exit_code == 0, again.output
    assert {file: file.stat().st_mtime_ns for file in study.glob("*/onnx.json")} == before
    assert json.loads((study / "latency.json").read_text())["rounds"] == 3
    assert "## Accuracy, latency and size" in (write_study_report(study).parent / "study.md").read_text()


def test_fine_tuning_where_it_is_asked_for(whole: Path, synthetic_shards: Path, tmp_path: Path) -> None:
    study = shutil.copytree(whole, tmp_path / "study")
    done = asked(*arguments(synthetic_shards, study, "--finetune=1", "--part=5/5"))
    assert done.exit_code == 0 and "2 done" in done.output, done.output
    (file,) = study.glob("*/eval-finetune.json")
    assert file.parent.name == CONTROL and json.loads(file.read_text())["finetune_epochs"] == 1
    before = file.stat().st_mtime_ns
    assert asked(*arguments(synthetic_shards, study, "--finetune=1", "--part=5/5")).exit_code == 0
    assert file.stat().st_mtime_ns == before
    assert asked(*arguments(synthetic_shards, study, "--finetune=2", "--part=5/5")).exit_code == 0
    assert json.loads(file.read_text())["finetune_epochs"] == 2  # another number is another figure


def test_a_part_beyond_the_last_run_is_done_at_once(synthetic_shards: Path, tmp_path: Path) -> None:
    for data in (synthetic_shards, synthetic_shards.as_uri()):
        done = asked(*arguments(data, tmp_path / "study", "--part=100/100", "--latency"))
        assert done.exit_code == 0 and "no runs in this part" in done.output, done.output


def test_what_changed_is_refused_by_name(whole: Path, synthetic_shards: Path, tmp_path: Path) -> None:
    refused = asked(*arguments(synthetic_shards, whole, "--set=kd.pretext_weight=2"))
    assert refused.exit_code == 2
    assert f"error: {TEACHER} was started with kd.pretext_weight = 1.0, not 2.0 - repeat" in refused.output
    refused = asked(*arguments(synthetic_shards, whole, "--epochs=4"))
    assert refused.exit_code == 2 and f"{TEACHER} was started with epochs = 3, not 4" in refused.output
    other = tmp_path / "other"
    other.mkdir()
    plan = json.loads((whole / "study.json").read_text())
    (other / "study.json").write_text(json.dumps({**plan, "data_fingerprint": "0" * 64}))
    refused = asked(*arguments(synthetic_shards, other))
    assert refused.exit_code == 2 and "holds a study of other data (shard set 000000000000;" in refused.output
    refused = asked(*arguments(synthetic_shards, tmp_path / "none", "--fractions=1,.1"))
    assert refused.exit_code == 2 and "baseline-c3d-f0.1-s0: 1 samples do not fill" in refused.output
    refused = asked(*arguments(synthetic_shards, tmp_path / "none", "--pairs=r3d:mc3_18"))
    assert refused.exit_code == 2 and "mc3_18" in refused.output and "width" in refused.output
    assert not (tmp_path / "none").exists()


def test_done_runs_are_neither_trained_nor_estimated_again(whole: Path, synthetic_shards: Path, tmp_path: Path) -> None:
    study = shutil.copytree(whole, tmp_path / "study")
    shutil.rmtree(study / CONTROL)
    before = sorted(path for path in study.rglob("*"))
    shown = asked(*arguments(synthetic_shards, study, "--dry-run"))
    assert shown.exit_code == 0, shown.output
    rows = {line.split()[0]: line.split() for line in shown.stdout.splitlines()[1:6]}
    assert rows[TEACHER][1:5] == ["3/3", "epochs", "0", "s"] and rows[STUDENT][1:5] == ["3/3", "epochs", "0", "s"]
    assert rows[CONTROL][1:3] == ["0/3", "epochs"]
    assert "5 runs: about" in shown.stdout
    assert sorted(path for path in study.rglob("*")) == before
    size = sum(path.stat().st_size for path in (whole / CONTROL).rglob("*") if path.is_file()) / 1e6
    # So small a network weighs little beside the pictures of clips, one an epoch, of which the calibration has more.
    assert float(rows[CONTROL][-2]) == pytest.approx(size, rel=0.4)


def test_time_is_clips_by_rate(synthetic_shards: Path, tmp_path: Path) -> None:
    changes = (*TINY, "evaluation.every=2", "evaluation.clips=2", "evaluation.pretext_passes=3", "epochs=5")
    changes += ("evaluation.features_every=5",)
    folder = StudyFolder(
        Study("demo", (*changes, "kd.fade_epochs=2"), (("r3d", "c3d"),), 1, (1.0,), ("recipe",)),
        synthetic_shards,
        tmp_path,
    )
    measured = {"r3d": Calibration(10.0, 0), "c3d": Calibration(20.0, 0)}
    trained = 5 * 12 * 3  # clips: epochs, videos, views
    # Untrained and after epochs 2, 4 and 5, features untrained and after 5; forward passes only.
    tested = (2 * 2 * 16 + 4 * 3 * 3 * 4) / 3
    _, student, control = folder.runs
    assert seconds_of(folder, control, measured) == pytest.approx((trained + tested) / 20)
    asked_in = 2 / 5  # of the epochs
    assert seconds_of(folder, student, measured) == pytest.approx((trained + tested) / 20 + asked_in * trained / 3 / 10)
