"""What figures 3 to 9 of the paper show, as lines of runs; the page, the SVG and the PNG files draw the same."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np

from pclkd.training.findings.arithmetic import Floats
from pclkd.training.findings.records import PlannedRun, Study, Trio, title

__all__ = [
    "COLOURS",
    "Figure",
    "Line",
    "Role",
    "Series",
    "colour_of",
    "figures_of",
    "repetition_series",
    "series_of",
]

Role = Literal["teacher", "student", "control", "baseline", "int8"]

COLOURS = (("#0072B2", "#5AB4E8"), ("#C44E00", "#FF9447"), ("#007A58", "#3CC79F"), ("#A8497F", "#E08CBB"))
"""A colour a backbone, on white and on dark, after Okabe and Ito (https://jfly.uni-koeln.de/color/)."""

_LABELS = {"teacher": ", teacher", "student": ", student", "control": ", no teacher", "baseline": ""}
_PUBLISHED = ("C3D", "R3D", "R(2+1)D")  # in the order of the paper's figures


@dataclass(frozen=True)
class Line:
    """Runs that differ in their repetition alone.

    Attributes:
        label: for the legend.
        role: of its runs; decides the stroke.
        colour: number of its backbone.
        runs: of all repetitions, also of those that have not begun.
    """

    label: str
    role: Role
    colour: int
    runs: tuple[PlannedRun, ...]


@dataclass(frozen=True)
class Figure:
    """One figure.

    Attributes:
        name: stem of its files.
        title: its heading.
        lines: from the back to the front.
    """

    name: str
    title: str
    lines: tuple[Line, ...]


@dataclass(frozen=True)
class Series:
    """A line's figures of one metric.

    Attributes:
        runs: (run, epochs [N], values [N]) of each run that has any.
        error: [N] standard error of the test videos where there is but one run; None where it is not known.
    """

    runs: tuple[tuple[PlannedRun, Floats, Floats], ...]
    error: Floats | None = None

    @cached_property
    def summary(self) -> tuple[Floats, Floats, Floats, Floats]:
        """(epochs, median, lowest, highest) over the runs that were measured then; of one run, its standard error."""
        if len(self.runs) == 1 and self.error is not None:
            _, epochs, values = self.runs[0]
            return epochs, values, values - self.error, values + self.error
        by_epoch: dict[float, list[float]] = {}
        for _, epochs, values in self.runs:
            for epoch, value in zip(epochs, values, strict=True):
                by_epoch.setdefault(float(epoch), []).append(float(value))
        found = [[epoch, statistics.median(v), min(v), max(v)] for epoch, v in sorted(by_epoch.items())]
        columns = np.array(found, float).reshape(-1, 4).T
        return columns[0], columns[1], columns[2], columns[3]


def series_of(study: Study, line: Line, metric: str) -> Series:
    """A line's figures of one metric."""
    curves = [(run, study.curve(run, metric)) for run in line.runs]
    found = [(run, curve) for run, curve in curves if curve is not None]
    error = found[0][1].values[1:].std(0) if len(found) == 1 and len(found[0][1].values) > 1 else None
    return Series(tuple((run, curve.epochs, curve.values[0]) for run, curve in found), error)


def repetition_series(label: str, found: Mapping[int, Mapping[float, Sequence[float]]]) -> Series:
    """A thin line a repetition: the means of `found`, by the repetition and the place across."""
    runs = []
    for group, by_place in sorted(found.items()):
        stand_in = PlannedRun(name=f"repetition {group}", kind="student", backbone=label[:100], group=group)
        places = sorted(by_place)
        values = np.array([float(np.mean(by_place[place])) for place in places])
        runs.append((stand_in, np.array(places, float), values))
    return Series(tuple(runs))


def figures_of(study: Study) -> list[Figure]:
    """The figures that the plan has runs for: baselines, same architectures, then one teacher with all students."""
    found = []
    most = max(run.fraction for run in study.runs)
    baselines = [run for run in study.runs if run.kind == "baseline" and run.fraction == most]
    names = list(dict.fromkeys(title(run.backbone) for run in baselines))
    if baselines:
        lines = [_line(study, name, "baseline", [r for r in baselines if title(r.backbone) == name]) for name in names]
        found.append(Figure("figure-3", "Figure 3: without a teacher", tuple(lines)))
    for name in study.backbones:
        own = [trio for trio in study.main if trio.pair.teacher == name == trio.pair.student]
        if own:
            number = f"Figure {4 + _PUBLISHED.index(name)}: " if name in _PUBLISHED else ""
            found.append(Figure(_stem(number, "same", name), f"{number}{name} taught by {name}", _lines(study, own)))
    for name in dict.fromkeys([*study.backbones, *(trio.pair.teacher for trio in study.main)]):
        taught = [trio for trio in study.main if trio.pair.teacher == name]
        if {trio.pair.student for trio in taught} - {name}:
            number = f"Figure {7 + _PUBLISHED.index(name)}: " if name in _PUBLISHED else ""
            heading = f"{number}{name} as the teacher"
            found.append(Figure(_stem(number, "teacher", name), heading, _lines(study, taught)))
    return found


def _lines(study: Study, trios: Sequence[Trio]) -> tuple[Line, ...]:
    """The teachers, then the controls, then the students of some trios."""
    teachers = [run for trio in trios for run in trio.teachers]
    lines = [
        _line(study, name, "teacher", [run for run in teachers if title(run.backbone) == name])
        for name in dict.fromkeys(title(run.backbone) for run in teachers)
    ]
    students = list(dict.fromkeys(trio.pair.student for trio in trios))
    for name in students:
        lines.append(_line(study, name, "control", [t.control for t in trios if t.pair.student == name]))
    for name in students:
        lines.append(_line(study, name, "student", [t.student for t in trios if t.pair.student == name]))
    return tuple(line for line in lines if line.runs)


def _line(study: Study, backbone: str, role: Role, runs: Sequence[PlannedRun | None]) -> Line:
    different = {run.name: run for run in runs if run is not None}
    return Line(backbone + _LABELS[role], role, colour_of(study, backbone), tuple(different.values()))


def colour_of(study: Study, backbone: str) -> int:
    """Number of a backbone's colour; teachers from outside have the first."""
    return study.backbones.index(backbone) % len(COLOURS) if backbone in study.backbones else 0


def _stem(number: str, kind: str, backbone: str) -> str:
    plain = "".join(letter for letter in backbone.lower() if letter.isalnum())
    return number.lower().rstrip(": ").replace(" ", "-") or f"{kind}-{plain}"
