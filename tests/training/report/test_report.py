import base64
import csv
import json
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import get_args

import pytest
from PIL import Image

from pclkd.sharding.common.errors import InputError
from pclkd.training.report.comparison import METRICS, compare_runs, epochs_to_reach
from pclkd.training.report.page import Table
from pclkd.training.report.report import markdown_table, write_report
from pclkd.training.runs.run_folder import Measured, append_line, find_runs, read_run
from pclkd.training.settings import CheckpointSettings

PRETEXT, LINEAR, RETRIEVAL = "val/pretext_top1_pct", "val/linear_top1_pct", "val/retrieval_r1_pct"
PICTURES = {"overview", "pretext", "linear", "retrieval", "losses"}


def write_run(path, curves, *, teacher=None, backbone=None, evals=None):
    """A run whose epoch lines hold `curves`: key -> values from epoch 0 on; None leaves the key out of that line."""
    path.mkdir(parents=True)
    settings = {"backbone": backbone or {"name": "r3d", "width": 1.0}, "teacher": teacher, "epochs": 3}
    (path / "settings.json").write_text(json.dumps(settings))
    for epoch in range(max(map(len, curves.values()), default=0)):
        values = {key: series[epoch] for key, series in curves.items() if series[epoch] is not None}
        append_line(path / "metrics.jsonl", {"kind": "epoch", "epoch": epoch, "step": 2 * epoch, **values})
    for epoch in range(3):
        for step in (1, 2):
            losses = {"loss": 3.0, "pretext": 1.5 - 0.1 * epoch, "contrast": 8.0}
            record = {"kind": "step", "epoch": epoch, "step": 2 * epoch + step, **losses}
            append_line(path / "metrics.jsonl", record)
    for protocol, content in (evals or {}).items():
        (path / f"eval-{protocol}.json").write_text(json.dumps(content))
    return path


@pytest.fixture
def runs(tmp_path):
    """A teacher, two students and a run alone, with values whose comparison can be read off."""
    root = tmp_path / "runs"
    write_run(root / "teacher", {PRETEXT: [20, 50, 70, 60], LINEAR: [10, 20, 30, 40], RETRIEVAL: [10, 12, 14, 16]})
    write_run(
        root / "student",
        {PRETEXT: [20, 60, 80, 75], LINEAR: [10, 25, 39.9, 39], RETRIEVAL: [9, None, 17, None]},
        teacher=str(root / "teacher"),
        evals={
            "linear": {"linear_top1_pct": 41.26, "linear_class0_pct": 7.0, "protocol": "linear", "test_videos": 9},
            "retrieval": {"retrieval_r1_pct": 16.0, "retrieval_r5_pct": 33.3},
        },
    )
    write_run(
        root / "small",
        {PRETEXT: [20, 30, 40, 61]},
        teacher="elsewhere/teacher/last.pt",
        backbone={"name": "c3d", "width": 0.25},
    )
    write_run(root / "control", {PRETEXT: [20, 30, 40, 59], LINEAR: [5, 5, 5, 45], RETRIEVAL: [1, 1, 1, 1]})
    return root


def rows_of(markdown):
    lines = [line for line in markdown.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_the_tables_hold_the_values_derived_by_hand(runs):
    page = write_report(runs)
    assert page == runs / "report" / "index.html"
    rows = rows_of((runs / "report" / "table.md").read_text())
    assert rows[0] == ["run", "backbone", "teacher", "parameters", "epochs", "pretext %", "linear %", "R@1 %"]
    r3d = "14,361,792"  # of the published R3D
    assert rows[2] == ["teacher", "r3d", "–", r3d, "3", "60.0 (70.0)", "40.0 (40.0)", "16.0 (16.0)"]
    assert rows[3][:3] == ["small", "c3d ×0.25", "teacher"]
    assert rows[3][5:] == ["61.0 (61.0)", "–", "–"]
    assert rows[4] == ["student", "r3d", "teacher", r3d, "3", "75.0 (80.0)", "39.0 (39.9)", "17.0 (17.0)"]
    assert rows[5] == ["control", "r3d", "–", r3d, "3", "59.0 (59.0)", "45.0 (45.0)", "1.0 (1.0)"]
    # Against the teacher's final 60, 40 and 16, not against its best.
    assert rows[8] == ["small", "teacher", "+1.0 (epoch 3)", "–", "–"]
    assert rows[9] == ["student", "teacher", "+15.0 (epoch 1)", "−1.0 (not reached)", "+1.0 (epoch 2)"]
    control = ["control", "teacher (not its teacher)", "−1.0 (not reached)", "+5.0 (epoch 3)", "−15.0 (not reached)"]
    assert rows[10] == control
    assert rows[11] == ["run", "linear top1 %", "retrieval r1 %", "retrieval r5 %"]
    assert rows[13:] == [["student", "41.3", "16.0", "33.3"]]


@pytest.fixture
def measured_runs(tmp_path):
    """A teacher and a student with standard errors, and a control beside them."""
    root = tmp_path / "measured"
    write_run(root / "teacher", {PRETEXT: [20, 50], f"{PRETEXT}_se": [4, 3]})
    write_run(
        root / "student",
        {PRETEXT: [20, 70, 60], f"{PRETEXT}_se": [4, 5, 4], LINEAR: [10, 20, 30]},
        teacher=str(root / "teacher"),
        evals={"linear": {"linear_top1_pct": 41.26, "linear_top1_pct_se": 5.04, "test_videos": 9}},
    )
    control = {"linear": {"linear_top1_pct": 25.0, "linear_top1_pct_se": 4.41}}
    path = write_run(root / "control-motion", {}, backbone={"name": "hand-made"}, evals=control)
    settings = json.loads((path / "settings.json").read_text())
    (path / "settings.json").write_text(json.dumps({**settings, "control": "motion"}))
    (path / "metrics.jsonl").unlink()
    return root


def test_errors_stand_beside_accuracies_and_add_up_in_differences(measured_runs):
    page = write_report(measured_runs).read_text()
    rows = rows_of((measured_runs / "report" / "table.md").read_text())
    assert [row[0] for row in rows] == ["run", "---", "teacher", "student"] + ["run", "---", "student"] * 2 + [
        "control-motion"
    ]
    assert rows[2][5:] == ["50.0 ± 3.0 (50.0)", "–", "–"]
    assert rows[3][5:] == ["60.0 ± 4.0 (70.0)", "30.0 (30.0)", "–"]
    assert rows[6][2] == "+10.0 ± 5.0 (epoch 1)"  # 3 and 4
    assert rows[7:] == [
        ["run", "linear top1 %"],
        ["---", "---:"],
        ["student", "41.3 ± 5.0"],
        ["control-motion", "25.0 ± 4.4"],
    ]
    assert "41.3 ± 5.0" in page and "25.0 ± 4.4" in page


def test_the_csv_has_a_row_a_run_with_every_figure_and_its_error(measured_runs):
    write_report(measured_runs)
    with (measured_runs / "report" / "table.csv").open(newline="") as file:
        rows = {row["run"]: row for row in csv.DictReader(file)}
    assert list(rows) == ["teacher", "student", "control-motion"]
    student, control = rows["student"], rows["control-motion"]
    wanted = {
        "role": "student", "teacher": "teacher", "against": "teacher", "epochs": "2",
        PRETEXT: "60.0", f"{PRETEXT}_se": "4.0", LINEAR: "30.0", f"{LINEAR}_se": "", RETRIEVAL: "",
        "best/pretext_top1_pct": "70.0", "best/pretext_top1_pct_se": "5.0",
        "ahead/pretext_top1_pct": "10.0", "ahead/pretext_top1_pct_se": "5.0", "reached/pretext_top1_pct": "1",
        "eval/linear/linear_top1_pct": "41.26", "eval/linear/linear_top1_pct_se": "5.04",
    }  # fmt: skip
    assert {name: student[name] for name in wanted} == wanted
    assert (control["role"], control["backbone"], control[PRETEXT]) == ("control", "hand-made", "")
    assert control["eval/linear/linear_top1_pct"] == "25.0"


def test_roles_and_order(runs):
    standings = compare_runs(find_runs(runs))
    assert [(s.run.name, s.role, s.teacher, s.goal) for s in standings] == [
        ("teacher", "teacher", None, None),
        ("small", "student", "teacher", "teacher"),
        ("student", "student", "teacher", "teacher"),
        ("control", "alone", None, "teacher"),
    ]


def test_pictures_are_whole_and_of_readme_size(runs):
    write_report(runs)
    for name in PICTURES:
        with Image.open(runs / "report" / f"{name}.png") as picture:
            picture.load()
            assert picture.width >= 1200
            assert 0.3 < picture.height / picture.width < 1.2
            colours = {colour for _, colour in picture.convert("RGB").getcolors(2**24)}
        assert (0x00, 0x72, 0xB2) in colours, f"the first student's blue is not in {name}.png"
    assert not list((runs / "report").glob("*.part"))


def test_the_same_runs_give_the_same_pictures(runs):
    write_report(runs)
    first = {name: (runs / "report" / f"{name}.png").read_bytes() for name in PICTURES}
    write_report(runs)
    assert {name: (runs / "report" / f"{name}.png").read_bytes() for name in PICTURES} == first


class _Reader(HTMLParser):
    def __init__(self):
        super().__init__()
        self.open, self.images, self.links, self.text = [], [], [], ""

    def handle_starttag(self, tag, attrs):
        attributes = dict(attrs)
        if tag == "img":
            self.images.append(attributes["src"])
        if tag not in {"img", "meta", "link"}:
            self.open.append(tag)
        self.links += [value for name, value in attrs if name in {"href", "src"} and not value.startswith("data:")]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


def test_tables_are_told_by_name_and_reached_by_keys(runs):
    text = write_report(runs).read_text(encoding="utf-8")
    tables = text.count("<table")
    assert tables == text.count('class="scroll" tabindex="0" role="region" aria-label="') > 1
    assert text.count("<th ") == text.count('<th scope="col">') + text.count('<th scope="row">')
    assert '<th scope="row">teacher</th>' in text and "<th>" not in text
    assert "color-scheme: light dark" in text and "@media print" in text


def test_the_page_needs_no_other_file(runs):
    write_run(runs / "<b>&", {PRETEXT: [1, 2, 3, 4]}, teacher="outside")
    reader = _Reader()
    reader.feed(write_report(runs).read_text(encoding="utf-8"))
    reader.close()
    assert reader.open == []
    assert reader.links == []
    assert len(reader.images) == 2
    for name, source in zip(("overview", "losses"), reader.images, strict=True):
        kind, _, data = source.partition(",")
        assert kind == "data:image/png;base64"
        assert base64.b64decode(data) == (runs / "report" / f"{name}.png").read_bytes()
    assert "<b>&" in reader.text
    assert "41.3" in reader.text


def test_a_single_run_that_goes_on(tmp_path):
    run = write_run(tmp_path / "run", {PRETEXT: [20.0]})
    with (run / "metrics.jsonl").open("a") as file:
        file.write('{"kind": "epoch", "epoch": 1, "st')
    write_report(run)
    rows = rows_of((run / "report" / "table.md").read_text())
    assert rows[2] == ["run", "r3d", "–", "14,361,792", "0", "20.0 (20.0)", "–", "–"]
    assert len(rows) == 3  # nothing to reach, nothing evaluated


def test_runs_without_a_teacher_or_any_validation(tmp_path):
    for name in ("a", "b"):
        write_run(tmp_path / name, {"train/loss": [None, 1.0, 0.5]})
    write_report(tmp_path)
    assert {path.stem for path in (tmp_path / "report").glob("*.png")} == PICTURES
    rows = rows_of((tmp_path / "report" / "table.md").read_text())
    assert rows[2][4:] == ["2", "–", "–", "–"]


def test_an_unknown_backbone_has_no_parameter_count(tmp_path):
    write_run(tmp_path / "a", {PRETEXT: [20.0]}, backbone={"name": "of tomorrow", "width": 1.0})
    write_report(tmp_path)
    assert rows_of((tmp_path / "report" / "table.md").read_text())[2][:4] == ["a", "of tomorrow", "–", "–"]


def test_nothing_to_report(tmp_path):
    with pytest.raises(InputError, match="holds no run"):
        write_report(tmp_path)
    write_run(tmp_path / "a", {})
    with pytest.raises(InputError, match="finished an epoch"):
        write_report(tmp_path)
    assert not (tmp_path / "report").exists()


def test_a_teacher_is_found_by_path_before_name(tmp_path):
    old = write_run(tmp_path / "old" / "net", {PRETEXT: [90.0]})
    root = tmp_path / "runs"
    write_run(root / "net", {PRETEXT: [50.0]})
    write_run(root / "pupil", {PRETEXT: [60.0]}, teacher=str(old))
    runs = [read_run(old), *find_runs(root)]
    by_name = {s.run.path: s for s in compare_runs(runs)}
    assert by_name[(root / "pupil").resolve()].ahead == {PRETEXT: (-30.0, None)}
    # Moved away from its teacher's path, the folder's name tells.
    moved = {s.run.name: s for s in compare_runs(find_runs(root))}
    assert moved["pupil"].ahead == {PRETEXT: (10.0, None)}


def test_a_run_is_not_its_own_teacher(tmp_path):
    write_run(tmp_path / "net", {PRETEXT: [50.0]}, teacher="/outside/net")
    (standing,) = compare_runs(find_runs(tmp_path))
    assert (standing.role, standing.teacher, standing.goal, standing.ahead) == ("student", "net", None, {})


@pytest.mark.parametrize(
    ("values", "goal", "epoch"),
    [([1, 2, 3], 2, 1), ([1, 2, 3], 2.5, 2), ([3, 1, 3], 3, 0), ([1, 2], 3, None), ([], 0, None)],
)
def test_epochs_to_reach(values, goal, epoch):
    points = {number: Measured(value, None) for number, value in enumerate(values)}
    assert epochs_to_reach(points, goal) == epoch


def test_a_pipe_in_a_name_does_not_break_the_table():
    text = markdown_table(Table("t", "n", [["run", "x"], ["a|b", "1"]]))
    assert len(re.findall(r"(?<!\\)\|", text.splitlines()[2])) == 3


def test_the_command_line_writes_it(runs):
    program = Path(sys.executable).with_name("train-kd")
    done = subprocess.run([program, "report", str(runs)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert str(runs / "report" / "index.html") in done.stdout
    done = subprocess.run([program, "report", str(runs / "none")], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr


def test_what_a_report_compares_is_what_the_best_checkpoint_can_be_chosen_by() -> None:
    choices = get_args(CheckpointSettings.model_fields["best"].annotation)
    assert [choice for choice in choices if choice] == [metric.key for metric in METRICS]
