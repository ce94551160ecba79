"""Where figures go: `metrics.jsonl`, TensorBoard, and a tracker where one is asked for."""

import json
import threading
from collections.abc import Callable, Container, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from torch.utils.tensorboard import SummaryWriter

from pclkd.pipeline.batch import ClipBatch
from pclkd.sharding.common.files import write_text
from pclkd.sharding.video.settings import settings_as_json
from pclkd.training.compute.neighbours import describe_threads
from pclkd.training.evaluation.evaluator import VideoFeatures
from pclkd.training.loop.plan import RunPlan
from pclkd.training.loop.tracking import Tracker, open_tracker
from pclkd.training.runs.answers import ANSWERS_NAME
from pclkd.training.runs.clip_form import STORED_FRAMES
from pclkd.training.runs.clip_pictures import clip_strip
from pclkd.training.runs.environment import describe_environment
from pclkd.training.runs.run_folder import ENVIRONMENT_NAME, METRICS_NAME, SETTINGS_NAME, append_line
from pclkd.training.settings import flat

__all__ = ["MetricsLog", "open_log"]

_PICTURES = 4  # samples shown


class MetricsLog:
    """Writes a record to all places; units stand in the tags.

    Args:
        run: the run folder.
        first_step: steps done before; TensorBoard forgets what a killed sitting wrote beyond it.
        tracker: where figures go too.
    """

    def __init__(self, run: Path, first_step: int, tracker: Tracker | None = None) -> None:
        self._tracker = tracker
        self._file = run / METRICS_NAME
        self._board = SummaryWriter(str(run / "tensorboard"), purge_step=first_step + 1)
        self._hook = threading.excepthook
        threading.excepthook = partial(_tell_of_thread, self._hook)

    def write(self, record: dict[str, Any], learned: Container[str] = ()) -> None:
        """Log a record of kind "step" or "epoch"; its "step" is TensorBoard's step.

        Args:
            record: the figures, by name.
            learned: those that the objective gave; TensorBoard and trackers have them under "step/".
        """
        append_line(self._file, record)
        figures: dict[str, float | str] = {
            f"step/{name}" if name in learned else name: value
            for name, value in record.items()
            if name not in {"kind", "epoch", "step"}
        }
        if self._tracker is not None:
            self._tracker.write(figures, record["step"])
        for tag, value in figures.items():
            if isinstance(value, str):
                self._board.add_text(tag, value, record["step"])
            else:
                self._board.add_scalar(tag, value, record["step"])

    def clips(self, batch: ClipBatch, step: int, *, residual: bool) -> None:
        """The first samples of a batch as pictures, as the network sees them."""
        for number in range(min(_PICTURES, batch.valid)):
            picture = clip_strip(batch.clips[number], residual=residual)
            self._board.add_image(f"clips/sample{number}", picture, step)
            self._board.add_text(f"clips/sample{number}", f"pretext class {int(batch.pretext_label[number])}", step)

    def summary(
        self, settings: Mapping[str, Any], figures: Mapping[str, float], videos: VideoFeatures, classes: Sequence[str]
    ) -> None:
        """The end of a run: features of the test videos for the projector, settings and figures as hyper-parameters.

        Args:
            settings: of the run, by path, as `optimizer.lr`.
            figures: the last epoch's.
            videos: with pictures.
            classes: names of the action classes.
        """
        self._board.add_embedding(
            videos.features.float().cpu(),
            metadata=[classes[label] if label >= 0 else "no label" for label in videos.labels.tolist()],
            label_img=videos.pictures,
            tag="test_videos",
        )
        told = {name: value if isinstance(value, int | float) else str(value) for name, value in settings.items()}
        self._board.add_hparams(told, {name: float(value) for name, value in figures.items()}, run_name=".")

    def close(self) -> None:
        """Flush and close."""
        try:
            self._board.close()
        finally:
            threading.excepthook = self._hook
        if self._tracker is not None:
            self._tracker.close()


def _tell_of_thread(tell: Callable[[threading.ExceptHookArgs], Any], ended: threading.ExceptHookArgs) -> None:
    # A full disk ends TensorBoard's writing thread, which keeps the error: the next record raises it, in one line.
    of_board = type(ended.thread).__module__.startswith("tensorboard.")
    if not (of_board and isinstance(ended.exc_value, OSError)):
        tell(ended)


def open_log(plan: RunPlan, legend: Mapping[str, Any], step: int) -> MetricsLog:
    """Make the run folder, with its settings and its machine, and the log in it.

    Args:
        plan: of the run.
        legend: what the losses are called.
        step: steps done before.
    """
    folder, resumed = plan.folder, plan.resumed is not None
    folder.mkdir(parents=True, exist_ok=True)
    teachers = [teacher.name for teacher in plan.teachers]
    settings = {
        **plan.settings.model_dump(mode="json"),
        "teacher": teachers[0] if teachers else None,
        "teachers": teachers,
        "data": str(plan.index.root),
        STORED_FRAMES: settings_as_json(plan.index.manifest.settings),
        "terms": legend,
    }
    environment = {**describe_environment(), **describe_threads()}
    write_text(folder / SETTINGS_NAME, json.dumps(settings, indent=2) + "\n")
    write_text(folder / ENVIRONMENT_NAME, json.dumps(environment, indent=2) + "\n")
    if not resumed:
        for name in (METRICS_NAME, ANSWERS_NAME):  # of a sitting that was killed before it saved anything
            (folder / name).unlink(missing_ok=True)
    return MetricsLog(folder, step, open_tracker(plan.settings.track, folder, flat(plan.settings), resumed=resumed))
