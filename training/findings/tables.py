"""The tables of a study: verdicts, a matrix a question, shares of the videos, what is distilled, and the runs."""

import math
from collections.abc import Callable, Sequence

from pclkd.training.findings.arithmetic import CONFIDENCE, FEWEST, POWER, Estimate, Question, final_accuracy
from pclkd.training.findings.claims import CLAIMS, LEAST_GAIN, QUESTIONS, Findings
from pclkd.training.findings.records import ITSELF, Pair, PlannedRun, Study, title
from pclkd.training.report.comparison import METRICS, Metric
from pclkd.training.report.page import Table

__all__ = [
    "MARKS",
    "ablation_table",
    "claim_table",
    "fraction_table",
    "matrices",
    "missing_table",
    "run_table",
    "teachers_table",
    "told",
    "told_answer",
    "verdict_table",
    "width_table",
]

MARKS = {"held": "✓", "did not hold": "✗", "not decided": "?"}
_NOTHING = "–"
_ALL_PAIRS = "All pairs of teacher and student together."


def verdict_table(findings: Findings) -> Table:
    """A row a claim, a column an accuracy."""
    rows = [["claim", *(metric.title for metric in METRICS)]]
    for claim in CLAIMS:
        rows.append([claim.text, *(_verdict(findings.judge(claim, metric.key)) for metric in METRICS)])
    note = (
        f"{CONFIDENCE:.0%} intervals decide, of at least {FEWEST} repetitions. A gain does not hold where the interval "
        f"ends below {LEAST_GAIN:g} point; half of the epochs does not hold where it begins above 0.5. The claims are "
        "judged one by one: of forty gains that are none, one may hold by chance."
    )
    return Table("Verdicts", note, rows)


def claim_table(findings: Findings, metric: Metric) -> Table:
    """A row a claim: the number that decides it."""
    rows = [["claim", "verdict", "measured", "interval", "repetitions", "would decide"]]
    for claim in CLAIMS:
        found, asked = findings.judge(claim, metric.key), QUESTIONS[claim.question]
        if found is None:
            rows.append([claim.text, *[_NOTHING] * 5])
            continue
        needed = _NOTHING if found.verdict != "not decided" else "?" if found.needed is None else str(found.needed)
        unit = f" {asked.unit}" if asked.unit else " of the epochs"
        measured = told(found.value, asked) + (unit if math.isfinite(found.value) else "")
        interval = f"{told(found.low, asked)} to {told(found.high, asked)}"
        rows.append([claim.text, _verdict(found), measured, interval, str(found.repetitions), needed])
    note = (
        "Measured: the mean over repetitions of the mean over pairs, in points; for epochs the medians. Intervals: "
        "Student's for means, bootstraps for epochs, over repetitions, and over the test videos where runs recorded "
        "their answers. Would decide: "
        f"repetitions that decide with probability {POWER:.0%} if mean and spread stay as they are; ?: more than 1000, "
        "or no number."
    )
    return Table(f"Claims by numbers: {metric.title}", note, rows)


def matrices(findings: Findings, metric: Metric) -> list[Table]:
    """A matrix a question: teachers down, students across."""
    study = findings.study
    teachers = list(dict.fromkeys(trio.pair.teacher for trio in study.main))
    students = list(dict.fromkeys(trio.pair.student for trio in study.main))
    found = []
    for name, asked in QUESTIONS.items():
        rows = [["teacher ↓ student →", *students]]
        for teacher in teachers:
            cells = []
            for student in students:
                trios = [t for t in study.main if (t.pair.teacher, t.pair.student) == (teacher, student)]
                cells.append(told_answer(findings.answer(trios, name, metric.key), asked))
            rows.append([teacher, *cells])
        found.append(Table(asked.name, asked.unit or "ratio", rows))
    return found


def ablation_table(findings: Findings, metric: Metric) -> Table | None:
    """A row a sort of distillation, where the plan has several."""
    return _by(
        findings, metric, "What is distilled", "terms", _ALL_PAIRS, lambda pair: pair.terms or _NOTHING, free="terms"
    )


def fraction_table(findings: Findings, metric: Metric) -> Table | None:
    """A row a share of the training videos, where the plan has several."""
    heading = "Fewer training videos"
    return _by(
        findings, metric, heading, "videos", _ALL_PAIRS, lambda pair: f"{100 * pair.fraction:g} %", free="fraction"
    )


def width_table(findings: Findings, metric: Metric) -> Table | None:
    """A row a width of students, where the plan has several."""
    heading = "Smaller and larger students"
    note = f"{_ALL_PAIRS} Teachers are of width ×1, controls as wide as the students."
    return _by(findings, metric, heading, "width", note, lambda pair: f"×{pair.width:g}", free="width")


def teachers_table(findings: Findings, metric: Metric) -> Table | None:
    """A row a student of several teachers, and those of each of these teachers alone, where the plan has such."""
    trios = findings.study.beside_main("teachers")
    several = {(t.pair.student, title(run.backbone)) for t in trios if t.pair.teachers > 1 for run in t.teachers}
    if not several:
        return None

    def shown(pair: Pair) -> bool:
        return pair.teachers > 1 or (pair.student, pair.teacher) in several

    note = "A student of several teachers is held against the one that ends highest."
    heading = "Several teachers at once"
    return _by(findings, metric, heading, "student", note, lambda pair: pair.told, free="teachers", shown=shown)


def _by(
    findings: Findings,
    metric: Metric,
    heading: str,
    column: str,
    note: str,
    name: Callable[[Pair], str],
    *,
    free: str,
    shown: Callable[[Pair], bool] = lambda _: True,
) -> Table | None:
    """A row a value of `name` of the pairs that are shown and as the main ones but for their field `free`."""
    trios = [trio for trio in findings.study.beside_main(free) if shown(trio.pair)]
    names = list(dict.fromkeys(name(trio.pair) for trio in trios))
    if len(names) < 2:
        return None
    rows = [[column, *(f"{asked.name} ({asked.unit})" if asked.unit else asked.name for asked in QUESTIONS.values())]]
    for each in names:
        chosen = [trio for trio in trios if name(trio.pair) == each]
        cells = [
            told_answer(findings.answer(chosen, question, metric.key), asked) for question, asked in QUESTIONS.items()
        ]
        rows.append([each, *cells])
    return Table(f"{heading}: {metric.title}", note, rows)


def missing_table(study: Study) -> Table | None:
    """The runs that have epochs to go."""
    rows = [["run", "epochs done"]]
    rows += [[run.name, f"{done} of {study.epochs}" if done else "not begun"] for run, done in study.unfinished()]
    note = "Numbers need finished runs, areas half of the epochs; all else is left out until it is there."
    return Table(f"Missing: {len(rows) - 1} of {len(study.runs)} runs", note, rows) if len(rows) > 1 else None


def run_table(study: Study) -> Table:
    """A row a run: what it is, and its final accuracies."""
    metrics = [f"{metric.short} % (last)" for metric in METRICS]
    rows = [["run", "kind", "backbone", "teacher", "distils", "videos", "seed", "repetition", "epochs", *metrics]]
    for run in study.runs:
        itself = ITSELF if run.kind == "student" else _NOTHING
        what = [run.name, run.kind, run.network, " + ".join(run.teachers) or itself]
        how = [run.terms if run.kind == "student" and run.terms else _NOTHING, f"{100 * run.fraction:g} %"]
        rows.append(what + how + [str(run.seed), str(run.group), str(study.epochs_done(run)), *_finals(study, run)])
    note = (
        "Mean over the last tenth of the measurements, which is what this report calls final; in brackets the last one."
    )
    return Table("Runs", note, rows)


def told(value: float, asked: Question) -> str:
    """A number as it is told: infinite is "never"; gains have a sign."""
    if math.isinf(value):
        return "never"
    text = f"{value:{'+' if asked.unit else ''}.{asked.decimals}f}"
    return text.replace("-", "\u2212")


def _finals(study: Study, run: PlannedRun) -> Sequence[str]:
    cells = []
    for metric in METRICS:
        found = study.curve(run, metric.key)
        cells.append(_NOTHING if found is None else f"{final_accuracy(found)[0]:.1f} ({found.values[0, -1]:.1f})")
    return cells


def _verdict(found: Estimate | None) -> str:
    return _NOTHING if found is None or found.verdict is None else f"{MARKS[found.verdict]} {found.verdict}"


def told_answer(found: Estimate | None, asked: Question) -> str:
    """An answer with its interval, and the mark of its verdict where there is one."""
    if found is None:
        return _NOTHING
    mark = f"{MARKS[found.verdict]} " if found.verdict else ""
    return f"{mark}{told(found.value, asked)} ({told(found.low, asked)} to {told(found.high, asked)})"
