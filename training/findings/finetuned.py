"""Fine-tuned accuracies: what networks are worth once they get the labels, students beside controls, paired by seed."""

import numpy as np

from pclkd.training.findings.arithmetic import Question, estimate
from pclkd.training.findings.claims import LEAST_GAIN
from pclkd.training.findings.records import PlannedRun, Study
from pclkd.training.findings.standing import told_runs
from pclkd.training.findings.tables import told_answer
from pclkd.training.report.page import Table

__all__ = ["finetuned_table"]

_GAIN = Question("student − without a teacher", "points", 1, "above", 0.0, LEAST_GAIN)


def finetuned_table(study: Study) -> Table | None:
    """A row a sort of student that was fine-tuned; None where none was."""
    measured = {name: record.evals["finetune"] for name, record in study.records.items() if "finetune" in record.evals}

    def value(run: PlannedRun | None) -> float | None:
        return None if run is None or run.name not in measured else float(measured[run.name]["finetune_top1_pct"])

    rows = [["student", "distils", "videos", "width", "no teacher %", "student %", f"{_GAIN.name} ({_GAIN.unit})"]]
    for pair in dict.fromkeys(trio.pair for trio in study.trios):
        both = [(value(trio.control), value(trio.student)) for trio in study.trios if trio.pair == pair]
        alone, taught = ([np.array([v]) for v in side if v is not None] for side in zip(*both, strict=True))
        if alone or taught:
            gains = [np.array([own - other]) for other, own in both if own is not None and other is not None]
            what = [pair.told, pair.terms, f"{100 * pair.fraction:g} %", f"×{pair.width:g}"]
            rows.append([*what, told_runs(alone), told_runs(taught), told_answer(estimate(gains, _GAIN), _GAIN)])
    epochs = sorted({found["finetune_epochs"] for found in measured.values()})
    note = (
        f"The whole network trained with the labels for {' or '.join(map(str, epochs))} epochs, then the clips of each "
        "test video vote; top-1. Median over runs ± standard error; the gain is paired by seed."
    )
    return Table("Fine-tuned", note, rows) if len(rows) > 1 else None
