"""Where figures go: `metrics.jsonl`, TensorBoard, and a tracker where one is asked for."""

from collections.abc import Container, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from torch.utils.tensorboard import SummaryWriter

from pclkd.pipeline.batch import ClipBatch
from pclkd.training.evaluation.evaluator import VideoFeatures
from pclkd.training.loop.tracking import Tracker
from pclkd.training.runs.clip_pictures import clip_strip
from pclkd.training.runs.run_folder import METRICS_NAME, append_metrics

__all__ = ["MetricsLog"]

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

    def write(self, record: dict[str, Any], learned: Container[str] = ()) -> None:
        """Log a record of kind "step" or "epoch"; its "step" is TensorBoard's step.

        Args:
            record: the figures, by name.
            learned: those that the objective gave; TensorBoard and trackers have them under "step/".
        """
        append_metrics(self._file, record)
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
            settings: nested.
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
        flat = dict(_flat(settings))
        self._board.add_hparams(flat, {name: float(value) for name, value in figures.items()}, run_name=".")

    def close(self) -> None:
        """Flush and close."""
        self._board.close()
        if self._tracker is not None:
            self._tracker.close()


def _flat(value: Any, name: str = "") -> Iterator[tuple[str, bool | str | int | float]]:
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _flat(inner, f"{name}.{key}" if name else str(key))
    else:
        yield name, value if isinstance(value, bool | str | int | float) else str(value)
