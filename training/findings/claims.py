"""What the study asks: of each pair of teacher and student, and of the paper's claims as a whole."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np

from pclkd.training.findings.arithmetic import (
    Curve,
    Estimate,
    Floats,
    Question,
    average_until,
    estimate,
    final_accuracy,
    first_passing,
)
from pclkd.training.findings.records import Study, Trio

__all__ = ["CLAIMS", "QUESTIONS", "Claim", "Findings"]

LEAST_GAIN = 1.0
"""Percentage points that a gain must have to matter."""

QUESTIONS = {
    "passing": Question("passes its teacher: epochs ÷ the teacher's epochs", "", 2, "below", 0.5),
    "passing_own": Question("passes its teacher: epochs ÷ those of the teacher to the same level", "", 2, "below", 0.5),
    "control_passing": Question("without a teacher: epochs to the same level ÷ the teacher's epochs", "", 2, None),
    "area": Question("first half: student − without a teacher", "points", 1, "above", 0.0, LEAST_GAIN),
    "end": Question("end: student − without a teacher", "points", 1, "above", 0.0, LEAST_GAIN),
    "above_teacher": Question("end: student − its teacher", "points", 1, "above", 0.0, LEAST_GAIN),
}
"""What is asked of every pair, by name."""


@dataclass(frozen=True)
class Claim:
    """A sentence that the study judges.

    Attributes:
        text: the sentence.
        question: name of the question that decides it.
        crossed: of students of another architecture than their teacher's; else of the same.
    """

    text: str
    question: str
    crossed: bool


CLAIMS = tuple(
    Claim(text + (", across architectures" if crossed else ", same architecture"), question, crossed)
    for question, text in (
        ("passing", "A student passes its teacher's final accuracy within half of the teacher's epochs"),
        ("area", "A student learns faster than the same network without a teacher"),
        ("above_teacher", "A student ends above its teacher"),
        ("end", "A student ends above the same network without a teacher"),
    )
    for crossed in (False, True)
)


class Findings:
    """The answers of a study.

    Args:
        study: its runs.
    """

    def __init__(self, study: Study) -> None:
        self.study = study
        self._numbers: dict[tuple[str, str], dict[str, Floats]] = {}
        self._answers: dict[tuple[Hashable, ...], Estimate | None] = {}

    def numbers(self, trio: Trio, metric: str) -> dict[str, Floats]:
        """The number that one student of one repetition gives for each question, [D] or [1]; without open ones.

        A question is open where a run has not gone as far as it needs: to the end, or for areas to half of the epochs.
        Of several teachers the one that ends highest is to be passed.
        """
        key = (trio.student.name, metric)
        if key not in self._numbers:
            student, control = (self.study.curve(run, metric) for run in (trio.student, trio.control))
            teachers = [self.study.curve(run, metric) for run in trio.teachers]
            self._numbers[key] = _numbers(student, teachers, control, epochs=self.study.epochs)
        return self._numbers[key]

    def answer(self, trios: Sequence[Trio], question: str, metric: str) -> Estimate | None:
        """What some students say together: a repetition's number is the mean (or median) of its students' numbers."""
        key = (tuple(trio.student.name for trio in trios), question, metric)
        if key not in self._answers:
            self._answers[key] = estimate(self._per_group(trios, question, metric), QUESTIONS[question])
        return self._answers[key]

    def _per_group(self, trios: Sequence[Trio], question: str, metric: str) -> list[Floats]:
        asked, per_group = QUESTIONS[question], []
        for group in sorted({trio.group for trio in trios}):
            found = [self.numbers(trio, metric).get(question) for trio in trios if trio.group == group]
            known = [number for number in found if number is not None]
            if known:
                per_group.append(asked.of(np.stack(np.broadcast_arrays(*known)), axis=0))
        return per_group

    def judge(self, claim: Claim, metric: str) -> Estimate | None:
        """What the study says of a claim."""
        return self.answer([t for t in self.study.main if t.pair.crossed == claim.crossed], claim.question, metric)


def _numbers(
    student: Curve | None, teachers: Sequence[Curve | None], control: Curve | None, *, epochs: int
) -> dict[str, Floats]:
    half, whole = epochs / 2, float(epochs)
    found: dict[str, Floats] = {}
    taught = [curve for curve in teachers if curve is not None and curve.length >= whole]
    if taught and len(taught) == len(teachers):
        goal = _over(np.maximum, [final_accuracy(curve) for curve in taught])
        own = _over(np.minimum, [first_passing(curve, goal) for curve in taught])
        own = np.maximum(own, 1.0)  # epoch 0 would divide by nothing
        if student is not None and student.length >= whole:
            passing = first_passing(student, goal)
            found["passing"] = passing / whole
            found["passing_own"] = passing / own
            found["above_teacher"] = final_accuracy(student) - goal
        if control is not None and control.length >= whole:
            found["control_passing"] = first_passing(control, goal) / whole
    if student is not None and control is not None:
        reached = min(student.length, control.length)
        if reached >= half:
            found["area"] = average_until(student, half) - average_until(control, half)
        if reached >= whole:
            found["end"] = final_accuracy(student) - final_accuracy(control)
    return found


def _over(choose: np.ufunc, each: Sequence[Floats]) -> Floats:
    return np.asarray(choose.reduce(np.stack(np.broadcast_arrays(*each))))
