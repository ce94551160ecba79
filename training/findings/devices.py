"""Accuracy against latency and size: the networks of a study as a small device would run them, table and picture.

DIR/latency.json       size and time of each network
DIR/<run>/onnx.json    how well a run's backbone describes videos there
"""

import math
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from pclkd.sharding.common.errors import InputError, visible
from pclkd.sharding.common.settings import first_fault
from pclkd.training.findings.arithmetic import Question, estimate
from pclkd.training.findings.claims import LEAST_GAIN
from pclkd.training.findings.figures import Line, Series, colour_of, repetition_series
from pclkd.training.findings.records import PlannedRun, Study, title
from pclkd.training.findings.standing import told_runs
from pclkd.training.findings.svg import Axis, draw_chart
from pclkd.training.findings.tables import told_answer
from pclkd.training.report.comparison import METRICS
from pclkd.training.report.page import Table
from pclkd.training.runs.trusted import read_object

__all__ = ["LATENCY_NAME", "ONNX_NAME", "PRECISIONS", "Devices", "Precision", "compared"]

LATENCY_NAME = "latency.json"
ONNX_NAME = "onnx.json"
Precision = Literal["float", "int8"]
PRECISIONS: tuple[Precision, ...] = ("float", "int8")

_Percent = Annotated[float, Field(ge=0, le=100)]


class _Told(BaseModel):
    model_config = ConfigDict(frozen=True, allow_inf_nan=False)


class _Network(_Told):
    network: str = Field(max_length=200)
    precision: Precision
    bytes: int = Field(ge=0, lt=2**63)
    ms: list[Annotated[float, Field(gt=0, le=1e9)]] = Field(min_length=2)


class _Timed(_Told):
    networks: list[_Network] = []
    clip: list[int] = []
    rounds: int = 0
    environment: dict[str, Any] = {}


class _Accuracies(_Told):
    linear_top1_pct: _Percent
    retrieval_r1_pct: _Percent


class _Described(_Told):
    float: _Accuracies
    int8: _Accuracies


Model = TypeVar("Model", bound=_Told)


def _read(path: Path, model: type[Model]) -> Model:
    try:
        return model.model_validate(read_object(path))
    except ValidationError as error:
        place, value, fault = first_fault(error)
        remedy = "measure again: train-kd latency"
        raise InputError(f"{path}: {place} = {visible(repr(value), 80)}: {fault}", remedy=remedy) from None


_DESCRIBED = METRICS[1:]  # a backbone alone answers no pretext question
_LOST = Question("int8 − float", "points", 1, "above", -LEAST_GAIN)
# Numbers of a decade, coarse to fine: the first row that puts enough of them on the axis is taken.
_STEPS = ((1, 2, 5), (1, 1.5, 2, 3, 4, 5, 7), (1, 1.2, 1.4, 1.6, 1.8, 2, 2.5, 3, 3.5, 4, 4.5, 5, 5.5, 6, 7, 8, 9))
_LEAST_NUMBERS = 3


def compared(study: Study) -> list[PlannedRun]:
    """The runs that are told of: the figures' students, those of other widths, and their controls."""
    trios = study.beside_main("width")
    pairs = [(trio.student, trio.control) for trio in trios]
    return list({run.name: run for pair in pairs for run in pair if run is not None}.values())


class Devices:
    """What was measured of a study's networks in ONNX Runtime, as far as it was.

    Args:
        study: the study.
        directory: its folder.
    """

    def __init__(self, study: Study, directory: Path) -> None:
        self._study = study
        told = directory / LATENCY_NAME
        self._told = _read(told, _Timed) if told.exists() else None
        self._networks: dict[tuple[str, Precision], _Network] = {
            (found.network, found.precision): found for found in (self._told.networks if self._told else ())
        }
        files = {name: record.path / ONNX_NAME for name, record in study.records.items()}
        self._runs = {name: _read(file, _Described) for name, file in files.items() if file.exists()}
        known = [run for run in compared(study) if run.name in self._runs]
        self._students = [run for run in known if run.kind == "student"]
        self._controls = [run for run in known if run.kind == "control"]

    def __bool__(self) -> bool:
        """Whether there is anything to tell."""
        return bool(self._networks)

    def table(self) -> Table:
        """A row a network and precision."""
        rows = [["network", "numbers", "MB", "ms a clip (quartiles)"]]
        for metric in _DESCRIBED:
            rows[0] += [f"{metric.short} %, no teacher", f"{metric.short} %, students"]
        rows[0].append(f"{_LOST.name} ({_LOST.unit} of {_DESCRIBED[0].short})")
        for (network, precision), found in self._networks.items():
            low, middle, high = statistics.quantiles(found.ms, n=4)
            row = [network, precision, f"{found.bytes / 1e6:.2f}", f"{middle:.2f} ({low:.2f} to {high:.2f})"]
            for metric in _DESCRIBED:
                for runs in (self._controls, self._students):
                    values = [self._accuracy(run, precision, metric.key) for run in runs if run.network == network]
                    row.append(told_runs([np.array([value]) for value in values]))
            rows.append([*row, self._lost(network) if precision == "int8" else "–"])
        told = self._told or _Timed()
        clip = " x ".join(map(str, told.clip))
        note = (
            f"ONNX Runtime, one CPU thread ({told.environment.get('cpu')}), clips of {clip}, one at a time: "
            f"processor time, the median of {told.rounds} rounds in which all networks take turns. int8: "
            "weights with a scale a channel, activations with ranges from training clips; its accuracy is measured. It "
            f"holds where the whole interval of the difference is above −{LEAST_GAIN:g} point. Accuracies: median over "
            "runs ± standard error."
        )
        return Table("Accuracy, latency and size", note, rows)

    def panels(self) -> dict[str, list[tuple[Line, Series]]]:
        """Lines by the accuracy's title."""
        return {metric.title: self._drawn(metric.key) for metric in _DESCRIBED}

    def charts(self) -> dict[str, str]:
        """SVG by the metric's protocol."""
        told = "percent of the test videos against milliseconds a clip"
        return {
            metric.protocol: draw_chart(self._drawn(metric.key), self.axis(), f"{metric.title}: {told}")
            for metric in _DESCRIBED
        }

    def _drawn(self, metric: str) -> list[tuple[Line, Series]]:
        return [(line, self._series(line, metric)) for line in self.lines()]

    def lines(self) -> list[Line]:
        """Of each backbone: without a teacher, students, and students in 8-bit numbers, through its widths."""
        found = []
        for backbone in dict.fromkeys(run.backbone for run in self._students):
            colour, name = colour_of(self._study, title(backbone)), title(backbone)
            controls, students = (
                tuple(run for run in runs if run.backbone == backbone) for runs in (self._controls, self._students)
            )
            found.append(Line(f"{name}, no teacher", "control", colour, controls))
            found.append(Line(f"{name}, students", "student", colour, students))
            found.append(Line(f"{name}, students, int8", "int8", colour, students))
        return found

    def _series(self, line: Line, metric: str) -> Series:
        """A thin line a repetition: the mean of its runs of each width, at their network's place on the axis."""
        precision: Precision = "int8" if line.role == "int8" else "float"
        found: dict[int, dict[float, list[float]]] = {}
        for run in line.runs:
            if (run.network, precision) in self._networks:
                place = self._place(self._ms(run.network, precision))
                by_place = found.setdefault(run.group, {})
                by_place.setdefault(place, []).append(self._accuracy(run, precision, metric))
        return repetition_series(line.label, found)

    def axis(self) -> Axis:
        """Milliseconds, each step as many times the one before."""
        first, last = self._ends()
        by_step = [
            [tick for power in range(-3, 6) for step in steps if first <= (tick := step * 10**power) <= last]
            for steps in _STEPS
        ]
        shown = next((ticks for ticks in by_step if len(ticks) >= _LEAST_NUMBERS), by_step[-1])
        ticks = [(self._place(tick), f"{tick:g}") for tick in shown]
        return Axis("ms a clip, one CPU thread", self._place(last), ticks, dots=True)

    def _ends(self) -> tuple[float, float]:
        times = [self._ms(*key) for key in self._networks]
        return min(times) / 1.25, max(times) * 1.25

    def _place(self, ms: float) -> float:
        return math.log(ms / self._ends()[0])

    def _ms(self, network: str, precision: Precision) -> float:
        return float(statistics.median(self._networks[network, precision].ms))

    def _accuracy(self, run: PlannedRun, precision: Precision, metric: str) -> float:
        return float(getattr(getattr(self._runs[run.name], precision), metric.removeprefix("val/")))

    def _lost(self, network: str) -> str:
        """What 8-bit numbers change, of all runs of a network, paired."""
        key = _DESCRIBED[0].key
        by_group: dict[int, list[float]] = {}
        for run in (*self._controls, *self._students):
            if run.network == network:
                both: Sequence[float] = [self._accuracy(run, precision, key) for precision in PRECISIONS]
                by_group.setdefault(run.group, []).append(both[1] - both[0])
        return told_answer(estimate([np.array([np.mean(each)]) for each in by_group.values()], _LOST), _LOST)
