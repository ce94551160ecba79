"""The numbers of a study as CSV, unrounded: curves, the number of every student, and the answers."""

import csv
import io
from collections.abc import Iterable, Sequence

from pclkd.training.findings.claims import CLAIMS, QUESTIONS, Findings
from pclkd.training.report.comparison import METRICS

__all__ = ["answers_csv", "curves_csv", "students_csv"]


def curves_csv(findings: Findings) -> str:
    """A row a run, epoch and accuracy: percent, and its standard error where the run recorded one."""
    heading = ["run", "kind", "backbone", "width", "teacher", "seed", "repetition", "fraction", "terms"]
    heading += ["epoch", "metric", "value", "standard_error"]
    rows = []
    for run in findings.study.runs:
        record = findings.study.records.get(run.name)
        what = [run.name, run.kind, run.backbone, run.width, " + ".join(run.teachers)]
        what += [run.seed, run.group, run.fraction, run.terms]
        for line in [] if record is None else record.epochs:
            rows += [
                [*what, line["epoch"], metric.key, line[metric.key], line.get(f"{metric.key}_se", "")]
                for metric in METRICS
                if line.get(metric.key) is not None
            ]
    return _csv(heading, rows)


def students_csv(findings: Findings) -> str:
    """A row a student and accuracy: the number of each question, empty where it is open, "inf" where censored."""
    rows = []
    for trio in findings.study.trios:
        for metric in METRICS:
            found = findings.numbers(trio, metric.key)
            cells = [float(found[name][0]) if name in found else "" for name in QUESTIONS]
            control = trio.control.name if trio.control else ""
            runs = [trio.student.name, " + ".join(run.name for run in trio.teachers), control]
            rows.append([*runs, trio.group, metric.key, *cells])
    return _csv(["student", "teacher", "control", "repetition", "metric", *QUESTIONS], rows)


def answers_csv(findings: Findings) -> str:
    """A row an answer: of every pair, and of every claim."""
    study = findings.study
    heading = ["about", "terms", "fraction", "width", "question", "metric"]
    rows: list[list[object]] = []
    asked = []
    for pair in dict.fromkeys(trio.pair for trio in study.trios):
        trios = [trio for trio in study.trios if trio.pair == pair]
        about = [pair.told, pair.terms, pair.fraction, pair.width]
        asked += [(about, trios, question) for question in QUESTIONS]
    for claim in CLAIMS if study.main else ():
        trios = [trio for trio in study.main if trio.pair.crossed == claim.crossed]
        usual = study.main[0].pair
        asked.append(([claim.text, usual.terms, usual.fraction, usual.width], trios, claim.question))
    for about, trios, question in asked:
        for metric in METRICS:
            found = findings.answer(trios, question, metric.key)
            if found is not None:
                numbers = [found.value, found.low, found.high, found.repetitions, found.verdict or "", found.needed]
                rows.append([*about, question, metric.key, *numbers])
    return _csv([*heading, "value", "low", "high", "repetitions", "verdict", "would_decide"], rows)


def _csv(heading: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(heading)
    writer.writerows(rows)
    return text.getvalue()
