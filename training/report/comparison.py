"""What runs have to do with each other: who taught whom, how far each came, and how fast it passed its teacher."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pclkd.sharding.common.errors import InputError, visible
from pclkd.training.runs.run_folder import Measured, Protocol, RunRecord

__all__ = ["METRICS", "Metric", "Standing", "accuracies", "compare_runs", "curve", "epochs_to_reach"]

Role = Literal["teacher", "student", "alone", "control"]


@dataclass(frozen=True)
class Metric:
    """An accuracy that is measured after every epoch.

    Attributes:
        key: its name in metrics.jsonl.
        protocol: what `train-kd evaluate` measures it by; stem of its picture.
        title: what it measures, in words.
        short: heading of a table column.
    """

    key: str
    protocol: Protocol
    title: str
    short: str


METRICS = (
    Metric("val/pretext_top1_pct", "pretext", "Pretext task", "pretext"),
    Metric("val/linear_top1_pct", "linear", "Action: linear probe", "linear"),
    Metric("val/retrieval_r1_pct", "retrieval", "Action: retrieval R@1", "R@1"),
)
"""What a report compares; all in percent."""


@dataclass(frozen=True)
class Standing:
    """A run among the others.

    Attributes:
        run: the run.
        role: "teacher" of another run here, "student" with a teacher, "alone": neither, or "control": no run of PCL at
            all, but what it is measured against.
        teacher: name of its teacher's folder, None without one.
        parameters: of the backbone, None where this version does not know it.
        epochs: epochs finished.
        final: by metric key, the last value measured.
        best: by metric key, the highest value.
        goal: name of the run that it is measured against, or None: its teacher, or for a run alone the only teacher
            here, because a student's speed says little unless the speed without a teacher is known.
        ahead: by metric key, its final value less the goal's. The error is that of two independent measurements; both
            saw the same videos, so that as a rule it is too large.
        reached: by metric key, the first measured epoch at or above the goal's final value, None where there is none;
            the same keys as `ahead`.
    """

    run: RunRecord
    role: Role
    teacher: str | None
    parameters: int | None
    epochs: int
    final: dict[str, Measured]
    best: dict[str, Measured]
    goal: str | None
    ahead: dict[str, Measured]
    reached: dict[str, int | None]

    @property
    def backbone(self) -> str:
        """Name of the backbone, with its width where that is not the published one."""
        name, width = _backbone(self.run)
        return name if width == 1 else f"{name} ×{width:g}"


def curve(run: RunRecord, key: str) -> list[tuple[int, float]]:
    """(epochs finished, value) wherever the run measured `key`."""
    return [(int(line["epoch"]), float(line[key])) for line in run.epochs if line.get(key) is not None]


def accuracies(run: RunRecord, key: str) -> dict[int, Measured]:
    """By epochs finished, ascending, the accuracy `key` wherever the run measured it."""
    return {int(line["epoch"]): Measured.of(line, key) for line in run.epochs if line.get(key) is not None}


def epochs_to_reach(points: Mapping[int, Measured], goal: float) -> int | None:
    """The first epoch whose value is at or above `goal`; None where there is none."""
    return next((epoch for epoch, measured in points.items() if measured.value >= goal), None)


def compare_runs(runs: Sequence[RunRecord]) -> list[Standing]:
    """Put the runs in order: teachers, then students, then runs alone, then controls, each by name."""
    teachers = {run.path: _find_teacher(run, runs) for run in runs}
    teaching = [run for run in runs if any(teacher is run for teacher in teachers.values())]
    standings = [_stand(run, teachers[run.path], teaching) for run in runs]
    order: tuple[Role, ...] = ("teacher", "student", "alone", "control")
    return sorted(standings, key=lambda standing: (order.index(standing.role), standing.run.name))


def _stand(run: RunRecord, teacher: RunRecord | None, teaching: Sequence[RunRecord]) -> Standing:
    named = _teacher_path(run)
    role: Role = "student" if named is not None else "teacher" if run in teaching else "alone"
    role = "control" if "control" in run.settings else role
    goal = teacher or (teaching[0] if role == "alone" and len(teaching) == 1 else None)
    measured = {metric.key: points for metric in METRICS if (points := accuracies(run, metric.key))}
    final = {key: _last(points) for key, points in measured.items()}
    goals = {key: _last(points) for key in measured if goal is not None and (points := accuracies(goal, key))}
    return Standing(
        run=run,
        role=role,
        teacher=teacher.name if teacher is not None else visible(named.name, 100) if named is not None else None,
        parameters=_count_parameters(run),
        epochs=max((int(line["epoch"]) for line in run.epochs), default=0),
        final=final,
        best={key: max(points.values(), key=lambda found: found.value) for key, points in measured.items()},
        goal=None if goal is None else goal.name,
        ahead={key: _difference(final[key], reached) for key, reached in goals.items()},
        reached={key: epochs_to_reach(measured[key], reached.value) for key, reached in goals.items()},
    )


def _last(points: Mapping[int, Measured]) -> Measured:
    return points[max(points)]


def _difference(one: Measured, other: Measured) -> Measured:
    known = one.error is not None and other.error is not None
    return Measured(one.value - other.value, math.hypot(one.error or 0, other.error or 0) if known else None)


def _teacher_path(run: RunRecord) -> Path | None:
    """The teacher's folder as the settings name it; a checkpoint in the folder counts as the folder."""
    named = run.settings.get("teacher")
    if not isinstance(named, str) or not named:
        return None
    path = Path(named)
    return path.parent if path.suffix in {".pt", ".safetensors"} else path


def _find_teacher(run: RunRecord, runs: Sequence[RunRecord]) -> RunRecord | None:
    """The run that taught `run`: by its path, or by its folder's name where the runs were moved together."""
    path = _teacher_path(run)
    if path is None:
        return None
    others = [other for other in runs if other.path != run.path]
    by_path = [other for other in others if other.path == path.resolve()]
    by_name = [other for other in others if other.name == path.name]
    return next(iter(by_path + by_name), None)


def _backbone(run: RunRecord) -> tuple[str, float]:
    settings = run.settings.get("backbone")
    if not isinstance(settings, dict) or "name" not in settings:
        return "?", 1.0
    return str(settings["name"]), float(settings.get("width", 1.0))


def _count_parameters(run: RunRecord) -> int | None:
    import torch

    from pclkd.training.models.registry import build_backbone

    try:
        with torch.device("meta"):  # shapes only: nothing is allocated or initialised
            network = build_backbone(*_backbone(run))
    except (InputError, RuntimeError):  # unknown, or of a width that no tensor has
        return None
    return sum(parameter.numel() for parameter in network.parameters())
