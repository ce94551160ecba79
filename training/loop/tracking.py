"""Trackers beside TensorBoard: settings and figures of a run go to Weights & Biases or MLflow, where asked for.

Both are told where to write by their own environment: WANDB_MODE=offline, WANDB_PROJECT, MLFLOW_TRACKING_URI. What a
tracker calls the run stands in RUN/tracking.json, so that a resumed run goes on there. A tracker that fails is left out
from then on, in one line: no figure of it is worth a training run.
"""

import importlib.util
import json
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

from pclkd.sharding.common.errors import InputError
from pclkd.sharding.common.files import write_text
from pclkd.training.loop.progress import say
from pclkd.training.runs.trusted import read_object
from pclkd.training.settings import TrackerName

__all__ = ["Tracker", "check_tracker", "open_tracker"]

_TRACKING_NAME = "tracking.json"
_PROJECT = "pclkd"


class Tracker(Protocol):
    """Where figures go."""

    run_id: str
    """What the tracker calls the run."""

    def write(self, figures: Mapping[str, float | str], step: int) -> None:
        """Log figures by tag."""

    def close(self) -> None:
        """Everything was logged."""


def check_tracker(name: TrackerName) -> None:
    """Refuse a tracker that is not installed.

    Raises:
        InputError: which extra has it.
    """
    if name != "none" and importlib.util.find_spec(name) is None:
        raise InputError(f"track={name} needs the package {name}", remedy=f"pip install 'pclkd[{name}]'")


def open_tracker(name: TrackerName, run: Path, settings: Mapping[str, Any], *, resumed: bool) -> "Tracker | None":
    """The tracker of a run: a new run there, or the one that this run had before; None without one.

    Args:
        name: of the tracker.
        run: the run folder; its name is the run's.
        settings: of the run, by path, as `optimizer.lr`.
        resumed: whether the run goes on.
    """
    if name == "none":
        return None
    notes = run / _TRACKING_NAME
    try:
        had = read_object(notes).get(name, "") if resumed and notes.exists() else ""
        tracker = _TRACKERS[name](run.absolute(), settings, had)
        write_text(notes, json.dumps({name: tracker.run_id}) + "\n")
        return _Careful(name, tracker)
    except Exception as error:  # whatever its network, its files and its server lead it to
        _tell(name, error)
        return None


class _Careful:
    """A tracker until it fails."""

    def __init__(self, name: str, tracker: Tracker) -> None:
        self.run_id = tracker.run_id
        self._name, self._tracker = name, tracker
        self._works = True

    def write(self, figures: Mapping[str, float | str], step: int) -> None:
        self._try(lambda: self._tracker.write(figures, step))

    def close(self) -> None:
        self._try(self._tracker.close)

    def _try(self, act: Callable[[], None]) -> None:
        if not self._works:
            return
        try:
            act()
        except Exception as error:  # as above
            self._works = False
            _tell(self._name, error)


def _tell(name: str, error: Exception) -> None:
    reason = (str(error).splitlines() or [type(error).__name__])[0]
    say(f"warning: {name} fails ({reason}); the run goes on without it, metrics.jsonl and TensorBoard have everything")


class _Wandb:
    def __init__(self, run: Path, settings: Mapping[str, Any], run_id: str) -> None:
        import wandb

        # A resumed run may begin at a step that was logged before; wandb's own steps only rise, so ours are figures.
        self._run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", _PROJECT),
            name=run.name,
            id=run_id or None,
            resume="allow",
            dir=str(run),
            config=dict(settings),
        )
        self._run.define_metric("*", step_metric="step")
        self.run_id: str = self._run.id

    def write(self, figures: Mapping[str, float | str], step: int) -> None:
        self._run.log({**figures, "step": step})

    def close(self) -> None:
        self._run.finish()


class _Mlflow:
    def __init__(self, run: Path, settings: Mapping[str, Any], run_id: str) -> None:
        uri = os.environ.get("MLFLOW_TRACKING_URI") or (run.parent / "mlruns").as_uri()
        if uri.startswith("file:"):  # a plain folder beside the runs; mlflow would rather have a database
            os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")
        from mlflow import MlflowClient
        from mlflow.entities import Param

        self._client = MlflowClient(tracking_uri=uri)
        if run_id:
            self._client.update_run(run_id, status="RUNNING")
        else:
            name = os.environ.get("MLFLOW_EXPERIMENT_NAME", _PROJECT)
            found = self._client.get_experiment_by_name(name)
            experiment = found.experiment_id if found else self._client.create_experiment(name)
            run_id = self._client.create_run(experiment, run_name=run.name).info.run_id
            told = [Param(key, str(value)[:6000]) for key, value in settings.items()]
            for start in range(0, len(told), 100):  # the most that one call takes
                self._client.log_batch(run_id, params=told[start : start + 100])
        self.run_id: str = run_id

    def write(self, figures: Mapping[str, float | str], step: int) -> None:
        from mlflow.entities import Metric, RunTag

        now = int(1000 * time.time())
        numbers = [Metric(key, float(value), now, step) for key, value in figures.items() if not isinstance(value, str)]
        texts = [RunTag(key, value) for key, value in figures.items() if isinstance(value, str)]
        self._client.log_batch(self.run_id, metrics=numbers, tags=texts)

    def close(self) -> None:
        self._client.set_terminated(self.run_id)


_TRACKERS: dict[str, Callable[[Path, Mapping[str, Any], str], Tracker]] = {"wandb": _Wandb, "mlflow": _Mlflow}
