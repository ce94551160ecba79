import csv
import importlib.util
import json
import math
import re
import shutil
import subprocess
import sys
import time
from html.parser import HTMLParser
from pathlib import Path
from statistics import median, stdev
from xml.etree import ElementTree

import pytest
from PIL import Image
from scipy import stats

from pclkd.sharding.common.errors import InputError
from pclkd.training.findings.report import write_study_report
from pclkd.training.findings.svg import epoch_axis


def load_recomputed():
    path = Path(__file__).with_name("recomputed.py")
    spec = importlib.util.spec_from_file_location("recomputed", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


anew = load_recomputed()


def rows_of(folder, name):
    with (folder / "report" / f"{name}.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def tables_of(folder):
    """title -> rows of cells."""
    found = {}
    for part in (folder / "report" / "study.md").read_text().split("## ")[1:]:
        heading, _, body = part.partition("\n")
        lines = [line for line in body.splitlines() if line.startswith("|")]
        found[heading] = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]
        del found[heading][1]
    return found


def in_words(value, question):
    if math.isinf(value):
        return "never"
    gain = question in {"area", "end", "above_teacher"}
    return (f"{value:+.1f}" if gain else f"{value:.2f}").replace("-", "−")


TAIL = stats.norm.cdf(-math.sqrt(5 / 4) * stats.t.ppf(0.975, 4))
TITLES = {"c3d": "C3D", "r3d": "R3D", "r2plus1d": "R(2+1)D"}
HEADINGS = {
    "passing": "passes its teacher: epochs ÷ the teacher's epochs",
    "passing_own": "passes its teacher: epochs ÷ those of the teacher to the same level",
    "control_passing": "without a teacher: epochs to the same level ÷ the teacher's epochs",
    "area": "first half: student − without a teacher",
    "end": "end: student − without a teacher",
    "above_teacher": "end: student − its teacher",
}
METRIC_TITLES = dict(zip(anew.METRICS, ("Pretext task", "Action: linear probe", "Action: retrieval R@1"), strict=True))


@pytest.fixture(scope="module")
def study(tmp_path_factory, write_study):
    folder = write_study(tmp_path_factory.mktemp("study") / "study")
    write_study_report(folder)
    return folder


def test_every_number_of_the_report_is_what_the_metrics_say(study):
    plan = json.loads((study / "study.json").read_text())
    numbers, tables = anew.students(study), tables_of(study)
    for row in rows_of(study, "students"):
        for question in HEADINGS:
            assert float(row[question]) == pytest.approx(numbers[row["student"], question, row["metric"]], abs=1e-9)

    def of(pairs, question, metric):
        groups = [
            [
                numbers[run["name"], question, metric]
                for run in plan["runs"]
                if run["kind"] == "student" and run["group"] == group
                if (run["teacher"].split("-")[1], run["backbone"]) in pairs
            ]
            for group in range(5)
        ]
        return anew.answer(groups, question, TAIL)

    told = {(row["about"], row["question"], row["metric"]): row for row in rows_of(study, "answers")}
    checked = 0
    for metric, title in METRIC_TITLES.items():
        for question, heading in HEADINGS.items():
            matrix = tables[f"{title}: {heading}"]
            assert matrix[0][1:] == list(TITLES.values())
            for (teacher, name), cells in zip(TITLES.items(), matrix[1:], strict=True):
                assert cells[0] == name
                for student, cell in zip(TITLES, cells[1:], strict=True):
                    value, low, high = of({(teacher, student)}, question, metric)
                    row = told[f"{TITLES[student]} taught by {name}", question, metric]
                    assert [float(row[k]) for k in ("value", "low", "high")] == pytest.approx([value, low, high])
                    words = [in_words(number, question) for number in (value, low, high)]
                    assert cell.lstrip("✓✗? ") == "{} ({} to {})".format(*words)
                    checked += 1
        same = {(name, name) for name in TITLES}
        crossed = {(a, b) for a in TITLES for b in TITLES} - same
        claims = tables[f"Claims by numbers: {title}"][1:]
        for row, verdicts in zip(claims, tables["Verdicts"][1:], strict=True):
            pairs = crossed if row[0].endswith("across architectures") else same
            question = next(r["question"] for r in told.values() if r["about"] == row[0])
            value, low, high = of(pairs, question, metric)
            assert row[2].split()[0] == in_words(value, question)
            assert row[4] == "5" and (row[5] == "–") == (not row[1].startswith("?"))
            assert row[3] == f"{in_words(low, question)} to {in_words(high, question)}"
            if question == "passing":
                word = "✓ held" if high <= 0.5 else "✗ did not hold" if low > 0.5 else "? not decided"
            else:
                word = "✓ held" if low > 0 else "✗ did not hold" if high < 1 else "? not decided"
            assert row[1] == verdicts[1 + anew.METRICS.index(metric)] == word
            checked += 1
    assert checked == 3 * (6 * 9 + 8)
    for row in tables["Runs"][1:]:
        for metric, cell in zip(anew.METRICS, row[9:], strict=True):
            values = anew.curve(study / row[0], metric)
            assert cell == f"{anew.final(values):.1f} ({values[20]:.1f})"
    curves = {(row["run"], int(row["epoch"]), row["metric"]): float(row["value"]) for row in rows_of(study, "curves")}
    assert len(curves) == 75 * 21 * 3
    assert all(
        anew.curve(study / "baseline-r3d-s0", m)[e] == curves["baseline-r3d-s0", e, m]
        for m in METRIC_TITLES
        for e in range(21)
    )


@pytest.mark.parametrize(
    ("epochs", "labels"), [(1, "0 1"), (20, "0 5 10 15 20"), (24, "0 5 10 15 20 24"), (100, "0 20 40 60 80 100")]
)
def test_an_axis_of_epochs_has_a_number_at_its_end(epochs, labels):
    axis = epoch_axis(epochs)
    assert " ".join(label for _, label in axis.ticks) == labels and axis.last == epochs


def test_the_figures_draw_the_runs_and_their_medians(study):
    root = ElementTree.parse(study / "report" / "figure-5-pretext.svg").getroot()
    space = "{http://www.w3.org/2000/svg}"
    left, right, first, last = map(float, root.get("data-x").split())
    bottom, top, low, high = map(float, root.get("data-y").split())

    def values(node):
        points = [map(float, point.split(",")) for point in node.get("points").split()]
        return {
            round(first + (x - left) / (right - left) * (last - first)): low
            + (bottom - y) / (bottom - top) * (high - low)
            for x, y in points
        }

    lines = {group.get("data-label"): group for group in root.iter(f"{space}g")}
    assert list(lines) == ["R3D, teacher", "R3D, no teacher", "R3D, student"]
    for group in lines.values():
        drawn = [line for line in group.iter(f"{space}polyline") if line.get("class") == "run"]
        measured = [anew.curve(study / line.get("data-run"), "val/pretext_top1_pct") for line in drawn]
        assert len(drawn) == 5
        for line, curve in zip(drawn, measured, strict=True):
            assert values(line) == pytest.approx(curve, abs=0.03)
        middle = next(line for line in group.iter(f"{space}polyline") if line.get("class") == "median")
        assert values(middle) == pytest.approx({e: sorted(c[e] for c in measured)[2] for e in range(21)}, abs=0.03)
    for number in range(3, 10):
        with Image.open(study / "report" / f"figure-{number}.png") as picture:
            picture.load()
            assert picture.width >= 1200


class _Reader(HTMLParser):
    def __init__(self):
        super().__init__()
        self.open, self.loads, self.tags = [], [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.loads += [value for name, value in attrs if name in {"href", "src", "action", "srcset", "data"}]
        if tag not in {"meta", "input"}:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        pass

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_the_page_needs_nothing_beside_it(study):
    text = (study / "report" / "index.html").read_text()
    reader = _Reader()
    reader.feed(text)
    reader.close()
    assert reader.open == [] and reader.loads == []
    assert str(study) not in text and "&quot;baseline-r3d-s0&quot;" in text  # teachers go by their names
    assert "link" not in reader.tags and not re.search(r"https?:|url\(|@import|\bfetch\b", text)


def test_the_same_study_gives_the_same_bytes(tmp_path, write_study):
    folder = write_study(tmp_path / "study", backbones=("r3d",), repetitions=2, videos=50)
    read = lambda: {path.name: path.read_bytes() for path in write_study_report(folder).parent.iterdir()}  # noqa: E731
    first = read()
    assert len(first) == 1 + 1 + 3 + 2 * 4
    assert read() == first


def test_75_runs_of_100_epochs_are_small_and_quick(tmp_path, write_study):
    folder = write_study(tmp_path / "study", epochs=100, videos=128)
    before = time.process_time()
    page = write_study_report(folder)
    assert time.process_time() - before < 60  # it takes 8; what grew with the square of the runs would take minutes
    assert page.stat().st_size < 3e6


def test_half_a_study(tmp_path, write_study):
    folder = write_study(tmp_path / "study", backbones=("r3d", "c3d"), repetitions=2)
    shutil.rmtree(folder / "control-c3d-s101")
    shutil.rmtree(folder / "r3d-from-c3d-s101")
    (folder / "c3d-from-r3d-s101" / "metrics.jsonl").unlink()
    cut = folder / "r3d-from-r3d-s100" / "metrics.jsonl"
    cut.write_text("".join(cut.read_text().splitlines(keepends=True)[:13]) + '{"kind": "ep')
    write_study_report(folder)
    tables = tables_of(folder)
    assert sorted(tables["Missing: 4 of 16 runs"][1:]) == [
        ["c3d-from-r3d-s101", "not begun"],
        ["control-c3d-s101", "not begun"],
        ["r3d-from-c3d-s101", "not begun"],
        ["r3d-from-r3d-s100", "12 of 20"],
    ]
    numbers = {(row["student"], row["metric"]): row for row in rows_of(folder, "students")}
    pretext = anew.METRICS[0]
    # Half of its epochs are done, which is enough for the area and for nothing else.
    went_on = numbers["r3d-from-r3d-s100", pretext]
    assert went_on["area"] and not went_on["end"] and not went_on["passing"] and went_on["control_passing"]
    alone = numbers["c3d-from-c3d-s101", pretext]
    assert alone["passing"] and not alone["end"] and not alone["control_passing"]
    assert not any(numbers["r3d-from-c3d-s101", pretext][q] for q in ("passing", "area", "end", "above_teacher"))
    verdicts = {cell for row in tables["Verdicts"][1:] for cell in row[1:]}
    assert verdicts == {"? not decided"}  # of two repetitions


def test_a_study_that_has_but_a_baseline(tmp_path, write_study):
    def only_one(plan):
        plan["runs"] = plan["runs"][:1]

    folder = write_study(tmp_path / "study", change=only_one)
    write_study_report(folder)
    assert [p.name for p in (folder / "report").glob("figure-*.png")] == ["figure-3.png"]
    assert list(tables_of(folder)) == ["Where each network came to", "Beside published figures (UCF101)", "Runs"]


def test_where_each_network_came_to(tmp_path, write_study):
    folder = write_study(tmp_path / "study", backbones=("c3d", "r3d"), videos=200)
    control = folder / "control-motion"
    control.mkdir()
    (control / "settings.json").write_text(json.dumps({"control": "motion", "backbone": {"name": "hand-made"}}))
    (control / "eval-linear.json").write_text(json.dumps({"linear_top1_pct": 92.25, "linear_top1_pct_se": 2.5}))
    write_study_report(folder)
    table = {row[0]: row[1:] for row in tables_of(folder)["Where each network came to"][1:]}
    plan = json.loads((folder / "study.json").read_text())
    found = anew.students(folder)
    wanted = {f"{TITLES[name]}, teacher": (lambda r, n=name: (r["kind"], r["backbone"]) == ("baseline", n), None)
              for name in ("c3d", "r3d")}  # fmt: skip
    for student in ("c3d", "r3d"):
        alone = lambda r, s=student: (r["kind"], r["backbone"]) == ("control", s)  # noqa: E731
        wanted[f"{TITLES[student]}, no teacher"] = (alone, None)
        for teacher in ("c3d", "r3d"):
            start = f"{student}-from-{teacher}-"
            wanted[f"{TITLES[student]}, taught by {TITLES[teacher]}"] = (
                lambda r, start=start: r["name"].startswith(start),
                [n for (name, asked, m), n in found.items()
                 if name.startswith(start) and asked == "passing" and m == anew.METRICS[0]],
            )  # fmt: skip
    assert set(table) == {*wanted, "hand-made motion features"}
    for name, (is_in, passing) in wanted.items():
        runs = [r["name"] for r in plan["runs"] if is_in(r)]
        cells = [str(len(runs))]
        for metric in anew.METRICS:
            ends = [anew.final(anew.curve(folder / run, metric)) for run in runs]
            cells.append(f"{median(ends):.1f} ± {stdev(ends) / 5**0.5:.1f}")
        halves = [anew.first_half(anew.curve(folder / run, anew.METRICS[0]), 20) for run in runs]
        assert table[name][:5] == [*cells, f"{median(halves):.1f} ± {stdev(halves) / 5**0.5:.1f}"]
        if passing is not None:
            low, mid, high = (f"{20 * x:g}" if x < math.inf else "never"
                              for x in (min(passing), median(passing), max(passing)))  # fmt: skip
            assert table[name][5] == (mid if low == high else f"{mid} ({low} to {high})")
    assert table["hand-made motion features"] == ["–", "–", "92.2 ± 2.5", "–", "–", "–"]


def test_shares_of_the_videos_and_what_is_distilled(tmp_path, write_study):
    def extend(plan):
        for kind, value in (("fraction", 0.25), ("terms", "feature")):
            for run in [r for r in plan["runs"] if r["fraction"] == 1 and r["terms"] == "pretext"]:
                if run["kind"] == "student" or (kind == "fraction" and run["kind"] == "control"):
                    plan["runs"].append({**run, kind: value, "name": f"{run['name']}-{value}"})

    folder = write_study(tmp_path / "study", backbones=("r3d",), repetitions=5, change=extend)
    write_study_report(folder)
    tables, numbers = tables_of(folder), anew.students(folder)
    for heading, names in (("What is distilled", ("pretext", "feature")), ("Fewer training videos", ("100 %", "25 %"))):
        rows = tables[f"{heading}: Pretext task"][1:]
        assert [row[0] for row in rows] == list(names)
        for row, tail in zip(rows, ("", "-feature" if heading.startswith("What") else "-0.25"), strict=True):
            groups = [[numbers[f"r3d-from-r3d-s{100 + g}{tail}", "end", anew.METRICS[0]]] for g in range(5)]
            words = [in_words(number, "end") for number in anew.answer(groups, "end", TAIL)]
            assert row[5].lstrip("✓✗? ") == "{} ({} to {})".format(*words)
    page = (folder / "report" / "index.html").read_text()
    assert page.count("Final accuracy by share of the training videos. ") == 3


def test_other_ways_to_distil_have_a_line_each(tmp_path, write_study):
    """Two teachers at once, none but itself, and other widths, which have controls of their own."""

    def extend(plan):
        for run in list(plan["runs"]):
            group, name = run["group"], run["name"]
            other = f"baseline-c3d-s{group}"
            if run["kind"] == "student" and run["teacher"] != other and run["backbone"] == "r3d":
                both = {"teacher": other, "other_teachers": [run["teacher"]]}
                plan["runs"].append({**run, **both, "name": f"{name}-both"})
                plan["runs"].append({**run, "teacher": None, "terms": "self", "name": f"{name}-self"})
            if run["kind"] != "baseline" and run["backbone"] == "r3d" and run["teacher"] != other:
                plan["runs"].append({**run, "width": 0.5, "name": f"{name}-narrow"})

    folder = write_study(tmp_path / "study", backbones=("c3d", "r3d"), change=extend)
    write_study_report(folder)
    tables, numbers = tables_of(folder), anew.students(folder)
    assert [len(row) for row in tables["Pretext task: " + HEADINGS["end"]]] == [3, 3, 3]  # no others among the pairs
    pairs = [f"{student}-from-{teacher}" for teacher in ("c3d", "r3d") for student in ("c3d", "r3d")]
    lines = {
        ("What is distilled", "pretext"): [f"{pair}-s{{}}" for pair in pairs],
        ("What is distilled", "self"): ["r3d-from-r3d-s{}-self"],
        ("Several teachers at once", "R3D taught by C3D"): ["r3d-from-c3d-s{}"],
        ("Several teachers at once", "R3D taught by R3D"): ["r3d-from-r3d-s{}"],
        ("Several teachers at once", "R3D taught by C3D + R3D"): ["r3d-from-r3d-s{}-both"],
        ("Smaller and larger students", "×1"): [f"{pair}-s{{}}" for pair in pairs],
        ("Smaller and larger students", "×0.5"): ["r3d-from-r3d-s{}-narrow"],
    }
    for metric, title in METRIC_TITLES.items():
        found = {
            (heading, row[0]): row[1:]
            for heading in dict.fromkeys(heading for heading, _ in lines)
            for row in tables[f"{heading}: {title}"][1:]
        }
        assert list(found) == list(lines)
        for line, names in lines.items():
            for question, cell in zip(HEADINGS, found[line], strict=True):
                known = [[numbers.get((n.format(100 + g), question, metric)) for n in names] for g in range(5)]
                if line[1] == "self" and question not in {"area", "end"}:
                    assert known == [[None]] * 5 and cell == "–"
                    continue
                words = [in_words(number, question) for number in anew.answer(known, question, TAIL)]
                assert cell.lstrip("✓✗? ") == "{} ({} to {})".format(*words)
    answers = [row for row in rows_of(folder, "answers") if " taught by " in row["about"]]
    groups = {}
    for run in json.loads((folder / "study.json").read_text())["runs"]:
        if run["kind"] == "student":
            names = [TITLES[name.split("-")[1]] for name in [run["teacher"], *run["other_teachers"]] if name]
            about = f"{TITLES[run['backbone']]} taught by {' + '.join(names) or 'itself'}"
            groups.setdefault((about, run["terms"], run["width"]), []).append([run["name"]])
    assert len(answers) == 3 * (6 * (len(groups) - 1) + 2)  # who teaches itself passes nobody
    for row in answers:
        names = groups[row["about"], row["terms"], float(row["width"])]
        numbers_of = [[numbers[name, row["question"], row["metric"]]] for (name,) in names]
        wanted = anew.answer(numbers_of, row["question"], TAIL)
        assert [float(row[k]) for k in ("value", "low", "high")] == pytest.approx(wanted)
        assert row["repetitions"] == "5"
    rows = {row[0]: row[1:4] for row in tables["Runs"][1:]}
    assert rows["r3d-from-r3d-s100-both"] == ["student", "R3D", "baseline-c3d-s0 + baseline-r3d-s0"]
    assert rows["r3d-from-r3d-s100-self"] == ["student", "R3D", "itself"]
    assert rows["control-r3d-s100-narrow"] == ["control", "R3D ×0.5", "–"]
    text = (folder / "report" / "index.html").read_text()
    assert all(text.count(f"<h2>{heading}</h2>") == 1 for heading in dict.fromkeys(heading for heading, _ in lines))


def test_fine_tuned_students_stand_beside_their_controls(tmp_path, write_study):
    folder = write_study(tmp_path / "study", backbones=("r3d",))
    gains = [2.0, 3.0, 4.0, 5.0, 2.5]
    for group, gain in enumerate(gains):
        for name, value in ((f"control-r3d-s{100 + group}", 60.0 + group), (f"r3d-from-r3d-s{100 + group}", None)):
            found = {"finetune_top1_pct": value or 60.0 + group + gain, "finetune_epochs": 30}
            (folder / name / "eval-finetune.json").write_text(json.dumps(found))
    write_study_report(folder)
    (row,) = tables_of(folder)["Fine-tuned"][1:]
    values = [60.0 + group + gain for group, gain in enumerate(gains)]
    taught = f"{sorted(values)[2]:.1f} ± {stats.sem(values):.1f}"
    words = [in_words(number, "end") for number in anew.answer([[gain] for gain in gains], "end", TAIL)]
    about = ["R3D taught by R3D", "pretext", "100 %", "×1", f"62.0 ± {stats.sem(range(5)):.1f}", taught]
    assert row == [*about, "✓ {} ({} to {})".format(*words)]


def numbers_below(chart: ElementTree.Element) -> list[str | None]:
    lowest = float(chart.get("data-y", "").split()[0])
    texts = chart.iter("{http://www.w3.org/2000/svg}text")
    return [text.text for text in texts if lowest < float(text.get("y", "")) < lowest + 30]


def test_accuracy_against_latency_and_size(tmp_path, write_study):
    def narrower(plan):
        plan["runs"] += [
            {**run, "width": 0.5, "name": f"{run['name']}-narrow"} for run in plan["runs"] if run["kind"] != "baseline"
        ]

    folder = write_study(tmp_path / "study", backbones=("r3d",), change=narrower)
    networks = {("R3D", "float"): 8.0, ("R3D", "int8"): 5.0, ("R3D ×0.5", "float"): 2.0, ("R3D ×0.5", "int8"): 1.5}
    told = [
        {"network": name, "precision": how, "bytes": round(1e5 * ms), "ms": [ms, 9 * ms, 0.5 * ms, ms, 0.9 * ms]}
        for (name, how), ms in networks.items()
    ]
    content = {"rounds": 5, "clip": [3, 8, 32, 32], "environment": {"cpu": "a <fast> one"}, "networks": told}
    (folder / "latency.json").write_text(json.dumps(content))
    accuracy = {}
    for run in json.loads((folder / "study.json").read_text())["runs"]:
        if run["kind"] != "baseline":
            linear = 50 - 10 * (run["width"] == 0.5) + 4 * (run["kind"] == "student") + run["group"]
            lost = 3.0 if run["width"] == 0.5 else 0.25
            found = {
                how: {"linear_top1_pct": linear - less, "retrieval_r1_pct": 40.0 - less, "linear_top1_pct_se": 5.0}
                for how, less in (("float", 0.0), ("int8", lost))
            }
            (folder / run["name"] / "onnx.json").write_text(json.dumps(found))
            accuracy[run["name"]] = found
    write_study_report(folder)
    rows = tables_of(folder)["Accuracy, latency and size"][1:]
    assert [tuple(row[:2]) for row in rows] == list(networks)
    assert rows[0][2:4] == ["0.80", "8.00 (5.60 to 40.00)"]
    error = stats.sem(range(5))
    assert rows[0][4:] == [f"52.0 ± {error:.1f}", f"56.0 ± {error:.1f}", "40.0 ± 0.0", "40.0 ± 0.0", "–"]
    assert rows[1][-1] == "✓ −0.2 (−0.2 to −0.2)" and rows[3][-1] == "✗ −3.0 (−3.0 to −3.0)"
    assert rows[3][4:6] == [f"39.0 ± {error:.1f}", f"43.0 ± {error:.1f}"]
    root = ElementTree.parse(folder / "report" / "latency-linear.svg").getroot()
    left, right, _, last = map(float, root.get("data-x").split())
    bottom, top, low, high = map(float, root.get("data-y").split())
    marks = {
        group.get("data-label"): [(float(dot.get("cx")), float(dot.get("cy"))) for dot in group.iter() if dot.get("r")]
        for group in root.iter("{http://www.w3.org/2000/svg}g")
    }
    wanted = {
        "R3D, no teacher": [(2.0, 42.0), (8.0, 52.0)],
        "R3D, students": [(2.0, 46.0), (8.0, 56.0)],
        "R3D, students, int8": [(1.5, 43.0), (5.0, 55.75)],
    }
    for name, points in wanted.items():
        for (x, y), (ms, value) in zip(marks[name], points, strict=True):
            assert (x - left) / (right - left) * last == pytest.approx(math.log(ms / (1.5 / 1.25)), abs=0.01)
            assert low + (bottom - y) / (bottom - top) * (high - low) == pytest.approx(value, abs=0.05)
    assert numbers_below(root) == ["2", "5", "10"]
    text = (folder / "report" / "index.html").read_text()
    assert text.count("<h2>Accuracy, latency and size</h2>") == 1 and "<fast>" not in text
    assert (folder / "report" / "latency.png").exists()
    for network in told:  # 3.15 to 3.8 ms: less than a decade, no number of 1, 2, 5
        network["ms"] = [3 + ms / 10 for ms in [network["ms"][0]] * 5]
    (folder / "latency.json").write_text(json.dumps(content))
    write_study_report(folder)
    root = ElementTree.parse(folder / "report" / "latency-linear.svg").getroot()
    assert numbers_below(root) == ["3", "3.5", "4", "4.5"]


def test_a_study_of_students_that_teach_themselves(tmp_path, write_study):
    def alone(plan):
        for run in plan["runs"]:
            run["teacher"] = None
            run["terms"] = "self" if run["kind"] == "student" else "none"

    folder = write_study(tmp_path / "study", backbones=("r3d",), change=alone)
    write_study_report(folder)
    assert tables_of(folder)["Pretext task: " + HEADINGS["end"]][1][0] == "itself"
    assert (folder / "report" / "teacher-itself.png").exists()


def test_published_figures_stand_beside_runs_measured_the_same_way_only(tmp_path, write_study):
    folder = write_study(tmp_path / "study", backbones=("r3d",), repetitions=2)
    same = {"finetune_top1_pct": 71.26, "test_videos": 3783, "clips": 10, "finetune_epochs": 150}
    names = {"baseline-r3d-s0": same, "baseline-r3d-s1": {**same, "clips": 3, "finetune_top1_pct": 99.0}}
    for name, found in names.items():
        (folder / name / "eval-finetune.json").write_text(json.dumps(found))
        full = {"backbone": {"name": "r3d", "width": 1.0}, "tuples": {"clip_frames": 16}, "loader": {"crop": 112}}
        (folder / name / "settings.json").write_text(json.dumps(full))
    write_study_report(folder)
    rows = tables_of(folder)["Beside published figures (UCF101)"]
    assert rows[1] == ["PCL (VCP)", "R3D", "fine-tuned top-1, split 1", "79.9", "71.3 (1 runs)", "not measured so"]
    assert rows[2][4:] == ["not measured so"] * 2


def test_names_that_look_like_html(tmp_path, write_study):
    def rename(plan):
        plan["runs"][0]["name"] = plan["runs"][2]["teacher"] = "<script>&"

    folder = write_study(tmp_path / "study", backbones=("r3d",), repetitions=1, change=rename)
    text = write_study_report(folder).read_text()
    assert "<script>&" not in text and "&lt;script&gt;&amp;" in text


def test_pages_of_single_runs_are_linked_where_they_are(tmp_path, write_study):
    folder = write_study(tmp_path / "study", backbones=("r3d",), repetitions=2, epochs=2)
    write_study_report(folder)
    assert "What the networks have learned" not in (folder / "report" / "index.html").read_text()
    page = folder / "r3d-from-r3d-s100" / "learned" / "index.html"
    page.parent.mkdir()
    page.write_text("what it has learned")
    write_study_report(folder)
    text = (folder / "report" / "index.html").read_text()
    links = re.findall(r'<a href="([^"]*)">([^<]*)</a>', text)
    assert [(name, (folder / "report" / address).resolve()) for address, name in links] == [(page.parts[-3], page)]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "cannot be read as JSON"),
        ('{"version": 2, "epochs": 3, "runs": []}', "version = 2"),
        ('{"version": 1, "epochs": 3, "runs": [{"name": "a", "kind": "b", "backbone": "r3d"}]}', "runs.0.kind = 'b'"),
        ('{"version": 1, "epochs": 3, "runs": []}', "no run in .* has finished an epoch"),
    ],
)
def test_a_damaged_plan_is_told(tmp_path, text, message):
    (tmp_path / "study.json").write_text(text)
    with pytest.raises(InputError, match=message):
        write_study_report(tmp_path)
    assert not (tmp_path / "report").exists()


def test_the_command_line_knows_a_study(tmp_path, write_study):
    folder = write_study(tmp_path / "study", backbones=("r3d",), repetitions=1)
    program = Path(sys.executable).with_name("train-kd")
    done = subprocess.run([program, "report", str(folder)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "Teachers and students" in (folder / "report" / "index.html").read_text()
    assert str(folder / "report" / "index.html") in done.stdout
