r"""A run folder: what a run writes while it trains, and how a report reads it.

    RUN/settings.json           the settings, nested; teachers, data, and how each term of the loss is told
    RUN/env.json                machine and versions
    RUN/metrics.jsonl           one JSON object a line, "kind" is "step" or "epoch"
    RUN/answers.jsonl           which test videos each evaluation told right: see answers.py
    RUN/tracking.json           what a tracker calls the run, where there is one
    RUN/eval-<protocol>.json    one evaluation each
    RUN/finetuned.safetensors   the fine-tuned network, once it was measured so
    RUN/learned/index.html      what the network has learned, to look at

What runs are measured against has a folder too: its settings say which "control" it is, and it has no metrics.jsonl.

A run may be killed and resumed at any moment, so metrics.jsonl may hold a line that was cut short, and lines that were
written twice: of the lines with one (kind, epoch, step) the last one counts. So with answers.jsonl.
"""

import json
import math
import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

from pclkd.sharding.common.errors import InputError, visible
from pclkd.sharding.common.files import no_device, parse_json
from pclkd.training.runs.trusted import check_evaluation, check_line, check_settings, read_object

__all__ = [
    "CONTROLS",
    "ENVIRONMENT_NAME",
    "LEARNED_PAGE",
    "METRICS_NAME",
    "PROTOCOLS",
    "SETTINGS_NAME",
    "Control",
    "Measured",
    "Protocol",
    "RunRecord",
    "append_line",
    "evaluation_path",
    "find_runs",
    "read_lines",
    "read_run",
]

SETTINGS_NAME = "settings.json"
METRICS_NAME = "metrics.jsonl"
ENVIRONMENT_NAME = "env.json"
LEARNED_PAGE = Path("learned", "index.html")

Protocol = Literal["pretext", "linear", "knn", "retrieval", "finetune"]
PROTOCOLS: tuple[Protocol, ...] = get_args(Protocol)

Control = Literal["motion", "untrained", "supervised"]
CONTROLS: tuple[Control, ...] = get_args(Control)


class Measured(NamedTuple):
    """An accuracy in percent, or a difference of two in points, with its standard error."""

    value: float
    error: float | None
    """None where none was recorded."""

    @classmethod
    def of(cls, figures: Mapping[str, Any], name: str) -> "Measured":
        """The figure of that name, with the error that stands beside it."""
        error = figures.get(f"{name}_se")
        return cls(float(figures[name]), None if error is None else float(error))

    def __str__(self) -> str:
        return f"{self.value:.1f}" if self.error is None else f"{self.value:.1f} ± {self.error:.1f}"


@dataclass(frozen=True)
class RunRecord:
    """A run as its folder tells it.

    Attributes:
        path: the folder.
        settings: of the run, nested.
        environment: machine and versions; empty where the run recorded none.
        epochs: the "epoch" lines, ascending by finished epochs; line 0 is the untrained network.
        steps: the "step" lines, ascending.
        evals: the evaluations, by protocol.
    """

    path: Path
    settings: dict[str, Any]
    environment: dict[str, Any]
    epochs: list[dict[str, Any]]
    steps: list[dict[str, Any]]
    evals: dict[Protocol, dict[str, Any]]

    @property
    def name(self) -> str:
        """Name of the folder, as it can be shown."""
        return visible(self.path.name)


def read_run(path: str | Path) -> RunRecord:
    """Read a run folder.

    Raises:
        InputError: no settings.json, or a file of the folder that holds what no run writes.
    """
    path = Path(path).resolve()
    if not (path / SETTINGS_NAME).is_file():
        raise InputError(
            f"{path} is not a run folder: it holds no {SETTINGS_NAME}",
            remedy="give the folder that train-kd wrote with --out",
        )
    lines = _read_metrics(path / METRICS_NAME)
    environment = path / ENVIRONMENT_NAME
    return RunRecord(
        path=path,
        settings=_read_settings(path / SETTINGS_NAME),
        environment=read_object(environment) if environment.exists() else {},
        epochs=[line for line in lines if line["kind"] == "epoch"],
        steps=[line for line in lines if line["kind"] == "step"],
        evals={
            protocol: _read_evaluation(file, protocol)
            for protocol in PROTOCOLS
            if (file := evaluation_path(path, protocol)).exists()
        },
    )


def find_runs(directory: str | Path) -> list[RunRecord]:
    """Read the run that `directory` is, or else the runs that stand directly in it, by name.

    Raises:
        InputError: no such folder, no run in it, or a damaged one.
    """
    directory = Path(directory)
    if not directory.is_dir():
        raise InputError(f"no folder {directory}", remedy="give a run folder, or a folder that holds run folders")
    if (directory / SETTINGS_NAME).is_file():
        return [read_run(directory)]
    found = sorted(entry.parent for entry in directory.glob(f"*/{SETTINGS_NAME}"))
    if not found:
        raise InputError(
            f"{directory} holds no run: neither it nor a folder in it has a {SETTINGS_NAME}",
            remedy="give the folder that train-kd wrote with --out, or the one above it",
        )
    return [read_run(path) for path in found]


def evaluation_path(run: Path, protocol: Protocol) -> Path:
    """Where a run keeps what one protocol found."""
    return run / f"eval-{protocol}.json"


def append_line(path: Path, record: Mapping[str, Any]) -> None:
    """Append `record` to `path` as one line of JSON; numbers that are not finite become null.

    The line reaches the file in one write. Where a killed run left half a line, the record starts a new one.
    """
    finite = {
        name: None if isinstance(value, float) and not math.isfinite(value) else value for name, value in record.items()
    }
    line = json.dumps(finite, allow_nan=False) + "\n"
    with path.open("ab+") as file:
        if file.seek(0, os.SEEK_END) > 0:
            file.seek(-1, os.SEEK_END)
            if file.read(1) != b"\n":
                line = "\n" + line
        file.write(line.encode())


def read_lines(path: Path) -> Iterator[tuple[str, Any]]:
    """Place and content of every line of JSON; none where the run has not written any yet."""
    text = no_device(path).read_bytes().decode(errors="replace") if path.exists() else ""
    for number, line in enumerate(text.split("\n"), start=1):
        with suppress(ValueError):  # half a line, where the run was killed
            yield f"{path}:{number}", parse_json(line)


def _read_metrics(path: Path) -> list[dict[str, Any]]:
    """The lines that count, ascending by epoch, then step."""
    lines: dict[tuple[str, int, int], dict[str, Any]] = {}
    for place, record in read_lines(path):
        check_line(place, record)
        lines[record["kind"], record["epoch"], record["step"]] = record
    return [lines[key] for key in sorted(lines, key=lambda key: key[1:])]


def _read_settings(path: Path) -> dict[str, Any]:
    settings = read_object(path)
    check_settings(path, settings, CONTROLS)
    return settings


def _read_evaluation(path: Path, protocol: Protocol) -> dict[str, Any]:
    found = read_object(path)
    check_evaluation(path, protocol, found)
    return found
