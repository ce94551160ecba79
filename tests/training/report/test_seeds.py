"""Runs that differ by their seed alone, against medians by hand."""

import json
from pathlib import Path
from statistics import median
from typing import Any

import pytest

from pclkd.training.report.chart_style import choose_looks
from pclkd.training.report.comparison import compare_runs
from pclkd.training.report.report import write_report
from pclkd.training.report.seeds import group_seeds, median_run
from pclkd.training.runs.run_folder import append_line, find_runs

PRETEXT, LINEAR = "val/pretext_top1_pct", "val/linear_top1_pct"
TAUGHT = ((90, 40, 61, 70), (30, 45, 66, 75), (25, 47, 62, 80))  # by seed, by epoch
ALONE = ((10, 20, 30, 59), (10, 20, 40, 63), (10, 20, 50, 55))


def write_run(path: Path, values: tuple[int, ...], seed: int, teacher: Path | None = None, **evals: float) -> None:
    path.mkdir(parents=True)
    backbone = {"name": "r3d", "width": 0.25}
    settings: dict[str, Any] = {"backbone": backbone, "seed": seed, "teacher": str(teacher) if teacher else None}
    (path / "settings.json").write_text(json.dumps({**settings, "teachers": [str(teacher)] if teacher else []}))
    for epoch, value in enumerate(values):
        record = {"kind": "epoch", "epoch": epoch, "step": 2 * epoch, PRETEXT: value, f"{PRETEXT}_se": 3.0}
        append_line(path / "metrics.jsonl", record)
        for step in (1, 2):
            losses = {"loss": float(value + step), "throughput/starving": "none"}
            append_line(path / "metrics.jsonl", {"kind": "step", "epoch": epoch, "step": 2 * epoch + step, **losses})
    for protocol, figure in evals.items():
        (path / f"eval-{protocol}.json").write_text(json.dumps({f"{protocol}_top1_pct": figure}))


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """Three teachers, a student and a run alone of each, and one student that is of another kind."""
    for number in range(3):
        end = f"-s{number}" if number else ""
        write_run(tmp_path / f"teacher{end}", (20, 50, 60 + number), 2 * number, linear=50.0 + number)
        write_run(tmp_path / f"student{end}", TAUGHT[number], 2 * number + 1, tmp_path / f"teacher{end}")
        write_run(tmp_path / f"alone{end}", ALONE[number], 2 * number + 1)
    write_run(tmp_path / "foreign", (1, 2), 9, tmp_path / "elsewhere")
    return tmp_path


def test_runs_are_grouped_by_all_but_their_seeds(runs: Path) -> None:
    groups = group_seeds(compare_runs(find_runs(runs)))
    assert sorted(sorted(standing.run.name for standing in group) for group in groups) == [
        ["alone", "alone-s1", "alone-s2"],
        ["foreign"],
        ["student", "student-s1", "student-s2"],
        ["teacher", "teacher-s1", "teacher-s2"],
    ]


def test_a_median_run_has_the_median_of_every_figure(runs: Path) -> None:
    (runs / "student-s2" / "metrics.jsonl").write_bytes(
        (runs / "student-s2" / "metrics.jsonl").read_bytes().rpartition(b'{"kind": "epoch", "epoch": 3')[0]
    )
    groups = group_seeds(compare_runs(find_runs(runs)))
    found = {group[0].run.name: median_run(group) for group in groups}
    student = found["student"]
    assert [line["epoch"] for line in student.epochs] == [0, 1, 2]  # as far as all have come
    assert [line[PRETEXT] for line in student.epochs] == [median(run[epoch] for run in TAUGHT) for epoch in range(3)]
    assert student.steps[3] == {"kind": "step", "epoch": 1, "step": 4, "loss": median(run[1] for run in TAUGHT) + 2}
    assert f"{PRETEXT}_se" not in student.epochs[0] and f"{PRETEXT}_se" in found["foreign"].epochs[0]
    looks = choose_looks(compare_runs(list(found.values())))
    assert [look.label for look in looks] == [
        "teacher, median of 3 seeds (r3d ×0.25, teacher)",
        "foreign (r3d ×0.25, taught by elsewhere)",
        "student, median of 3 seeds (r3d ×0.25, taught by teacher)",
        "alone, median of 3 seeds (r3d ×0.25, no teacher)",
    ]


def test_the_report_tells_medians_and_ranges(runs: Path) -> None:
    write_report(runs)
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in (runs / "report" / "table.md").read_text().splitlines()
        if line.startswith("|")
    ]
    assert rows[0] == ["run", "seeds", "pretext %", "linear %", "R@1 %"]
    assert ["teacher", "3", "61.0 (60.0 to 62.0)", "51.0 (50.0 to 52.0)", "–"] in rows
    assert ["student", "3", "75.0 (70.0 to 80.0)", "–", "–"] in rows
    assert ["foreign", "1", "2.0", "–", "–"] in rows
    # Medians against the median teacher's 61: the student's 62 at epoch 2, the run alone ends at 59.
    assert ["student", "teacher", "+14.0 (epoch 2)", "–", "–"] in rows
    assert ["alone", "teacher (not its teacher)", "−2.0 (not reached)", "–", "–"] in rows
    assert "student-s2" in (runs / "report" / "index.html").read_text()
