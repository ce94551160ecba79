"""Where each network of a study came to, beside what no training and labels come to: the table that is read first."""

import math
import statistics
from collections.abc import Sequence

from pclkd.training.findings.arithmetic import Curve, Floats, average_until, final_accuracy
from pclkd.training.findings.claims import Findings
from pclkd.training.findings.records import PlannedRun, Study, Trio, title
from pclkd.training.report.comparison import METRICS
from pclkd.training.report.page import Table
from pclkd.training.runs.run_folder import Measured, RunRecord

__all__ = ["standing_table", "told_runs"]

_NOTHING = "–"
_PRETEXT = METRICS[0]
_CONTROLS = {
    "motion": "hand-made motion features",
    "untrained": "{}, untrained",
    "supervised": "{}, trained with the labels",
}


def standing_table(findings: Findings) -> Table:
    """A row a network: teachers, controls without a teacher, students; then what PCL is measured against."""
    study = findings.study
    finals = [f"{metric.short} %" for metric in METRICS]
    rows = [["network", "runs", *finals, "first half of pretext %", "at the teacher's end after"]]
    most = max(run.fraction for run in study.runs)
    baselines = [run for run in study.runs if run.kind == "baseline" and run.fraction == most]
    for backbone in dict.fromkeys(run.backbone for run in baselines):
        own = [run for run in baselines if run.backbone == backbone]
        rows.append([f"{title(backbone)}, teacher", *_measured(study, own), _NOTHING])
    for student in dict.fromkeys(trio.pair.student for trio in study.main):
        trios = [trio for trio in study.main if trio.pair.student == student]
        controls = list({trio.control.name: trio.control for trio in trios if trio.control is not None}.values())
        passing = _epochs(findings, trios, "control_passing")
        rows.append([f"{student}, no teacher", *_measured(study, controls), passing])
        for teacher in dict.fromkeys(trio.pair.teacher for trio in trios):
            taught = [trio for trio in trios if trio.pair.teacher == teacher]
            passing = _epochs(findings, taught, "passing")
            students = [trio.student for trio in taught]
            rows.append([f"{student}, taught by {teacher}", *_measured(study, students), passing])
    rows += [_control_row(record) for record in study.controls]
    note = (
        "Percent of the test videos at the end (mean over the last tenth of the measurements): the median over the "
        "runs ± its standard error, with one run that of the test videos, with several that of their mean over seeds. "
        "First half: the mean accuracy of the pretext task over the first half of the epochs. At the teacher's end: "
        f"epochs of {study.epochs} until the pretext accuracy stays, in the mean, above where the teacher ended."
    )
    if study.controls:
        note += " Without a number of runs: what PCL is measured against, by train-kd controls."
    return Table("Where each network came to", note, rows)


def _measured(study: Study, runs: Sequence[PlannedRun]) -> list[str]:
    """Number of finished runs, their final accuracies, and their mean pretext accuracy in the first half."""
    whole = [run for run in runs if study.epochs_done(run) >= study.epochs]
    cells = [str(len(whole))]
    for metric in METRICS:
        cells.append(told_runs([final_accuracy(curve) for curve in _curves(study, whole, metric.key)]))
    cells.append(told_runs([average_until(curve, study.epochs / 2) for curve in _curves(study, whole, _PRETEXT.key)]))
    return cells


def _curves(study: Study, runs: Sequence[PlannedRun], key: str) -> list[Curve]:
    return [curve for curve in (study.curve(run, key) for run in runs) if curve is not None]


def told_runs(numbers: Sequence[Floats]) -> str:
    """Median and standard error of what some runs gave, each [D] with its draws from row 1 on."""
    if not numbers:
        return _NOTHING
    values = [float(number[0]) for number in numbers]
    if len(values) > 1:
        return str(Measured(statistics.median(values), statistics.stdev(values) / math.sqrt(len(values))))
    draws = numbers[0][1:]
    return str(Measured(values[0], float(draws.std()) if len(draws) else None))


def _epochs(findings: Findings, trios: Sequence[Trio], question: str) -> str:
    """The median epoch of passing the teacher's end, with the range over the runs."""
    found = [findings.numbers(trio, _PRETEXT.key).get(question) for trio in trios]
    epochs = [float(ratio[0]) * findings.study.epochs for ratio in found if ratio is not None]
    if not epochs:
        return _NOTHING
    low, high = min(epochs), max(epochs)
    spread = "" if low == high else f" ({_epoch(low)} to {_epoch(high)})"
    return _epoch(statistics.median(epochs)) + spread


def _epoch(value: float) -> str:
    return "never" if math.isinf(value) else f"{value:g}"


def _control_row(record: RunRecord) -> list[str]:
    name = _CONTROLS[record.settings["control"]].format(title(record.settings["backbone"]["name"]))
    cells = []
    for metric in METRICS:
        figures, figure = record.evals.get(metric.protocol, {}), metric.key.removeprefix("val/")
        cells.append(str(Measured.of(figures, figure)) if figure in figures else _NOTHING)
    return [name, _NOTHING, *cells, _NOTHING, _NOTHING]
