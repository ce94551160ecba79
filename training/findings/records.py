"""A study's folder as its report reads it: the plan, the runs as far as they got, and who is held against whom.

DIR/study.json      the plan
DIR/<name>/         an ordinary run folder, once the run has begun
DIR/control-*/      what train-kd controls measured there, if it did
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from pclkd.sharding.common.errors import InputError
from pclkd.sharding.common.files import no_device, parse_json
from pclkd.sharding.common.settings import first_fault
from pclkd.training.findings.arithmetic import Curve, Floats
from pclkd.training.runs.answers import Answers, read_answers
from pclkd.training.runs.run_folder import CONTROLS, SETTINGS_NAME, RunRecord, read_run

__all__ = ["ITSELF", "STUDY_NAME", "Pair", "PlannedRun", "Study", "Trio", "is_study", "read_study", "title"]

STUDY_NAME = "study.json"
ITSELF = "itself"
"""Who teaches a student that has no other teacher."""
_SORT = ("terms", "fraction", "width", "teachers")  # of students, whatever the backbones
_DRAWS = 401  # of the test videos; a prime, to go with resamples in any order
_TITLES = {"c3d": "C3D", "r3d": "R3D", "r2plus1d": "R(2+1)D"}


def _checked_name(name: str) -> str:
    if "/" in name or name in ("", ".", "..") or len(name) > 200 or not name.isprintable():
        raise ValueError("is no name of a folder in the study's")
    return name


_Name = Annotated[str, AfterValidator(_checked_name)]


class PlannedRun(BaseModel):
    """A run of the plan; fields as study.json has them."""

    model_config = ConfigDict(frozen=True, allow_inf_nan=False)

    name: _Name
    kind: Literal["baseline", "student", "control"]
    backbone: _Name
    width: float = Field(default=1.0, gt=0, le=64)
    """Factor on the teachers' width."""
    teacher: _Name | None = None
    """Name of the run that teaches it; None too where it teaches itself."""
    other_teachers: tuple[_Name, ...] = ()
    """Names of runs that teach it at the same time."""
    seed: int = Field(default=0, ge=0, lt=2**63)
    group: int = Field(default=0, ge=0, lt=2**31)
    """Repetition: runs of one group are held against each other."""
    fraction: float = Field(default=1.0, gt=0, le=1)
    """Of the training videos."""
    terms: str = Field(default="", max_length=200)
    """What is distilled."""

    @property
    def teachers(self) -> tuple[str, ...]:
        """Names of all runs that teach it."""
        return () if self.teacher is None else (self.teacher, *self.other_teachers)

    @property
    def network(self) -> str:
        """Backbone as it is told, with its width where that is not the teachers'."""
        return title(self.backbone) + ("" if self.width == 1 else f" ×{self.width:g}")


class _Plan(BaseModel):
    version: Literal[1]
    epochs: int = Field(ge=0, le=2**31)
    preset: str = Field(default="", max_length=200)
    runs: list[PlannedRun]


@dataclass(frozen=True)
class Pair:
    """One sort of student.

    Attributes:
        teacher: its backbone as it is told; of several all, joined.
        student: its backbone as it is told.
        terms: what is distilled.
        fraction: share of the training videos.
        width: factor on the teachers' width.
        teachers: how many teach it at once; one where it teaches itself.
    """

    teacher: str
    student: str
    terms: str
    fraction: float
    width: float
    teachers: int

    @property
    def told(self) -> str:
        """Who is taught by whom."""
        return f"{self.student} taught by {self.teacher}"

    @property
    def crossed(self) -> bool:
        """Whether the architectures differ."""
        return self.teacher != self.student


@dataclass(frozen=True)
class Trio:
    """A student of one repetition with what it is held against, as far as the plan has it."""

    pair: Pair
    group: int
    student: PlannedRun
    teachers: tuple[PlannedRun, ...]
    control: PlannedRun | None


class Study:
    """A plan with its runs.

    Args:
        directory: the study's folder.
        plan: what study.json holds.
    """

    def __init__(self, directory: Path, plan: _Plan) -> None:
        self.epochs, self.preset, self.runs = plan.epochs, plan.preset, plan.runs
        self.records: dict[str, RunRecord] = {
            run.name: read_run(directory / run.name)
            for run in plan.runs
            if (directory / run.name / SETTINGS_NAME).is_file()
        }
        planned = {run.name for run in plan.runs}
        self.controls: list[RunRecord] = [
            read_run(file.parent)
            for control in CONTROLS
            for file in sorted(directory.glob(f"control-{control}*/{SETTINGS_NAME}"))
            if file.parent.name not in planned
        ]
        self._answers: dict[str, dict[int, dict[str, Answers]]] = {}
        self._curves: dict[tuple[str, str], Curve | None] = {}

    @cached_property
    def backbones(self) -> list[str]:
        """Names as they are told, in the plan's order."""
        return list(dict.fromkeys(title(run.backbone) for run in self.runs))

    @cached_property
    def trios(self) -> list[Trio]:
        """Every student with its teachers and the control of its network, repetition and share of the videos."""
        by_name = {run.name: run for run in self.runs}
        controls = {_start_of(run): run for run in reversed(self.runs) if run.kind == "control"}
        trios = []
        for run in self.runs:
            if run.kind == "student":
                teachers = tuple(by_name[name] for name in run.teachers if name in by_name)
                names = [title(by_name[name].backbone) if name in by_name else name for name in run.teachers] or [
                    ITSELF
                ]
                pair = Pair(" + ".join(names), title(run.backbone), run.terms, run.fraction, run.width, len(names))
                trios.append(Trio(pair, run.group, run, teachers, controls.get(_start_of(run))))
        return trios

    @cached_property
    def main(self) -> list[Trio]:
        """The students of figures, matrices and verdicts.

        Those of one teacher, of its width, on the most videos, of the plan's first sort of distillation, as far as the
        plan has them.
        """
        if not self.trios:
            return []
        usual = min(self.trios, key=lambda t: (t.pair.teacher == ITSELF, t.pair.teachers > 1, t.pair.width != 1)).pair
        most = max(trio.pair.fraction for trio in self.trios)
        wanted = {name: getattr(usual, name) for name in _SORT} | {"fraction": most}
        return [t for t in self.trios if all(getattr(t.pair, name) == value for name, value in wanted.items())]

    def beside_main(self, *free: str) -> list[Trio]:
        """The main students, and those that differ from them in some fields of their pair alone."""
        fixed = [name for name in _SORT if name not in free]
        return [
            trio
            for trio in self.trios
            if self.main and all(getattr(trio.pair, n) == getattr(self.main[0].pair, n) for n in fixed)
        ]

    def epochs_done(self, run: PlannedRun) -> int:
        """Epochs that a run has finished; 0 where it has not begun."""
        record = self.records.get(run.name)
        return 0 if record is None else max((int(line["epoch"]) for line in record.epochs), default=0)

    def unfinished(self) -> Iterator[tuple[PlannedRun, int]]:
        """The runs that have epochs to go, with those that are done."""
        for run in self.runs:
            if (done := self.epochs_done(run)) < self.epochs:
                yield run, done

    def curve(self, run: PlannedRun | None, key: str) -> Curve | None:
        """What a run measured, None where it measured nothing.

        Where it recorded its answers, the rows from 1 on are the curve for other test videos, drawn from those with
        replacement: the same ones in a row of every run that was asked about as many, so that what is hard or easy for
        both sides of a difference is no part of it.
        """
        if run is None or run.name not in self.records:
            return None
        if (run.name, key) not in self._curves:
            if run.name not in self._answers:
                self._answers[run.name] = read_answers(self.records[run.name].path)
            self._curves[run.name, key] = _read_curve(self.records[run.name], self._answers[run.name], key)
        return self._curves[run.name, key]


def _start_of(run: PlannedRun) -> tuple[object, ...]:
    """What student and control share."""
    return run.backbone, run.width, run.group, run.fraction


def _read_curve(record: RunRecord, answers: dict[int, dict[str, Answers]], key: str) -> Curve | None:
    lines = [line for line in record.epochs if line.get(key) is not None]
    if not lines:
        return None
    epochs, values = (np.array([float(line[column]) for line in lines]) for column in ("epoch", key))
    told = [found for line in lines if (found := answers.get(line["epoch"], {}).get(key)) is not None]
    if len(told) < len(lines) or len({len(found.right) for found in told}) > 1:
        return Curve(epochs, values[None])
    right, asked = (np.stack([found[part] for found in told]) for part in (0, 1))  # [N, V]
    drawn = _drawn_videos(right.shape[1])
    counted = drawn @ asked.T  # [D, N]
    moved = np.where(counted > 0, 100 * (drawn @ right.T) / np.maximum(counted, 1), values)
    return Curve(epochs, np.concatenate([values[None], moved]))


@cache
def _drawn_videos(count: int) -> Floats:
    """[D, count] how often each video stands in each draw of as many, with replacement."""
    return np.random.default_rng(count).multinomial(count, np.full(count, 1 / count), size=_DRAWS).astype(float)


def title(backbone: str) -> str:
    """A backbone's name as papers write it."""
    return _TITLES.get(backbone, backbone)


def is_study(directory: str | Path) -> bool:
    """Whether a folder is a study's."""
    return (Path(directory) / STUDY_NAME).is_file()


def read_study(directory: str | Path) -> Study:
    """Read a study's folder, finished or not.

    Raises:
        InputError: study.json or a run's folder is damaged, or no run has measured anything yet.
    """
    directory = Path(directory)
    path = directory / STUDY_NAME
    try:
        plan = _Plan.model_validate(parse_json(no_device(path).read_bytes()))
    except ValidationError as error:
        place, value, fault = first_fault(error)
        raise InputError(
            f"{path}: {place} = {_shortened(value)}: {fault}", remedy="run train-kd study again with the same options"
        ) from None
    except FileNotFoundError:
        raise InputError(
            f"{directory} holds no study: there is no {STUDY_NAME}", remedy="give the folder that train-kd study wrote"
        ) from None
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read as JSON ({error})", remedy="restore the file") from None
    study = Study(directory, plan)
    if not any(record.epochs for record in study.records.values()):
        raise InputError(
            f"no run in {directory} has finished an epoch", remedy="wait for the first epoch, or train longer"
        )
    return study


def _shortened(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
