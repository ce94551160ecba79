"""Measuring a network on the test part of a split: pretext accuracy, linear probe, kNN, retrieval."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, NamedTuple, Protocol, Self

import torch

from pclkd.pipeline.batch import ClipBatch
from pclkd.pipeline.clips.covering import UniformRecipe
from pclkd.pipeline.config import PixelPath
from pclkd.pipeline.loader.loader import ClipLoader
from pclkd.pipeline.opening import clip_loader
from pclkd.pipeline.world import World
from pclkd.sharding.common.errors import InputError
from pclkd.sharding.shards.index import ShardIndex
from pclkd.training.compute.precision import Precision
from pclkd.training.evaluation.accuracy import accuracy
from pclkd.training.evaluation.probes import knn_vote, linear_probe, retrieval_at_k
from pclkd.training.models.pcl_model import PclModel
from pclkd.training.runs.answers import as_marks
from pclkd.training.runs.clip_pictures import thumbnails
from pclkd.training.settings import RunSettings

__all__ = ["PRETEXT_SEED", "Describer", "Evaluation", "Evaluator", "VideoFeatures"]

PRETEXT_SEED = 20_201_015
"""Fixed: every network of every run is asked the same questions."""


class Describer(Protocol):
    """Whatever describes clips: a `PclModel`, or formulas in its place."""

    training: bool

    def train(self, mode: bool = True) -> Any:
        """Learn, or be measured."""

    def features(self, clips: torch.Tensor) -> torch.Tensor:
        """[B, V, C, T, H, W] -> [B, V, F]."""


@dataclass(frozen=True)
class VideoFeatures:
    """Features of the videos of one part of a split.

    Attributes:
        features: [N, F] float32, mean over the clips of a video.
        labels: [N] int64 action classes, -1 without one.
        rows: [N] int64, which videos of the part they are, since damaged ones are left out.
        pictures: [N, 3, 48, 48] float32 in [0, 1], the middle frame of each first clip; None where nobody asked.
    """

    features: torch.Tensor
    labels: torch.Tensor
    rows: torch.Tensor
    pictures: torch.Tensor | None = None


class Evaluation(NamedTuple):
    """What is measured while training, by name, tagged `val/`.

    Attributes:
        figures: accuracies in percent, and their standard errors in points.
        answers: of each accuracy which test videos were told right: see `as_marks`.
    """

    figures: dict[str, float]
    answers: dict[str, list[str]]


class Evaluator:
    """Measures networks; its loaders stay open, so that measuring each epoch costs no start-up.

    All accuracies come in percent, each with its standard error: see `accuracy`.

    Args:
        index: the shard set.
        settings: of the run: split, shapes, modality.
        device: where the network is.
        clips: clips a video for features.
    """

    def __init__(self, index: ShardIndex, settings: RunSettings, device: torch.device, clips: int) -> None:
        self._settings, self._device, self._classes = settings, device, len(index.classes)
        self._videos = len(index.split_samples(settings.split, "test"))
        self._precision = Precision(settings.precision, device)
        self._path: PixelPath | None = None  # until the first loader has decided
        load = partial(clip_loader, index, settings, World(), device=device, shuffle=False, fraction=1)
        self._tuples = load(part="test", seed=PRETEXT_SEED, augment=None)
        # The same number of clips a batch whatever the recipe, so that evaluation needs no more memory than training.
        videos = max(1, settings.loader.batch_size * self._tuples.recipe.views // clips)
        uniform = UniformRecipe(views=clips, clip_frames=settings.tuples.clip_frames)
        self._train, self._test = (load(part=part, recipe=uniform, batch_size=videos) for part in ("train", "test"))

    def pretext(self, model: PclModel) -> dict[str, float]:
        """Pretext accuracy, in all and by class; each video is asked in every pass, always with the same draws.

        Raises:
            InputError: the run has no pretext task.
        """
        return self._of_pretext(*self.pretext_answers(model))

    def _of_pretext(self, predicted: torch.Tensor, label: torch.Tensor, video: torch.Tensor) -> dict[str, float]:
        hit = predicted == label
        figures = {**accuracy("pretext_top1", hit, video), "pretext_samples": len(hit)}
        for number in sorted(set(label.tolist())):
            chosen = label == number
            figures |= accuracy(f"pretext_class{number}", hit[chosen], video[chosen])
        return figures

    def pretext_answers(self, model: PclModel) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Answer, right answer, and row of the video, [N] int64 each, on the host.

        Raises:
            InputError: the run has no pretext task.
        """
        if self._settings.pretext.task == "none":
            raise InputError("the run has no pretext task", remedy="measure it by another protocol")
        found: list[torch.Tensor] = []
        with _evaluating(model), self._precision.autocast():
            for number in range(self._settings.evaluation.pretext_passes):
                for batch in self._epoch(self._tuples, number):
                    predicted = model(batch.clips).pretext_logits.argmax(1)
                    asked = torch.stack([predicted, batch.pretext_label, batch.sample_index])
                    found.append(asked[:, : batch.valid].cpu())
        predicted, label, video = torch.cat(found, dim=1)
        return predicted, label, video

    def features(self, model: Describer, part: Literal["train", "test"], *, pictures: bool = False) -> VideoFeatures:
        """Features of all videos of a part, the mean over the clips of each, with a picture of each if asked."""
        residual = self._settings.loader.modality == "residual"
        found: list[torch.Tensor] = []
        seen: list[torch.Tensor] = []
        labels: list[torch.Tensor] = []
        rows: list[torch.Tensor] = []
        with _evaluating(model), self._precision.autocast():
            for batch in self._epoch(self._train if part == "train" else self._test, 0):
                found.append(model.features(batch.clips).float().mean(1)[: batch.valid])
                labels.append(batch.label[: batch.valid])
                rows.append(batch.sample_index[: batch.valid])
                if pictures:
                    seen.append(thumbnails(batch.clips[: batch.valid], residual=residual))
        return VideoFeatures(
            torch.cat(found), torch.cat(labels), torch.cat(rows), torch.cat(seen) if pictures else None
        )

    def linear(self, train: VideoFeatures, test: VideoFeatures) -> dict[str, float]:
        """Accuracy of a linear probe."""
        return _figures(self._linear_hits(train, test))

    def _linear_hits(self, train: VideoFeatures, test: VideoFeatures) -> dict[str, torch.Tensor]:
        data = train.features, train.labels, test.features, test.labels
        return {"linear_top1": linear_probe(*data, classes=self._classes)}

    def retrieval(
        self, train: VideoFeatures, test: VideoFeatures, ks: tuple[int, ...] = (1, 5, 10, 20, 50)
    ) -> dict[str, float]:
        """R@k."""
        return _figures(_retrieval_hits(train, test, ks))

    def knn(self, train: VideoFeatures, test: VideoFeatures) -> dict[str, float]:
        """Accuracy of the 20 nearest training videos' vote."""
        return _figures(self._knn_hits(train, test))

    def _knn_hits(self, train: VideoFeatures, test: VideoFeatures) -> dict[str, torch.Tensor]:
        data = train.features, train.labels, test.features, test.labels
        return {"knn_top1": knn_vote(*data, classes=self._classes)}

    def all(self, model: PclModel, *, features: bool = True) -> Evaluation:
        """What is measured while training: pretext, linear probe, kNN, R@1/5/10.

        Of videos without labels, the pretext accuracy alone. Damaged videos are left out of all of it; where there are
        any, `val/quarantined_samples` counts how often one was asked for.

        Args:
            model: the network.
            features: whether to measure them: all but the pretext task.
        """
        before = self._quarantined
        found: dict[str, float] = {}
        answers: dict[str, list[str]] = {}
        if self._settings.pretext.task != "none":
            predicted, label, video = self.pretext_answers(model)
            found |= self._of_pretext(predicted, label, video)
            answers["pretext_top1"] = self._marks(predicted == label, video)
        if features and self._classes:
            train, test = self.features(model, "train"), self.features(model, "test")
            hits = (
                self._linear_hits(train, test) | self._knn_hits(train, test) | _retrieval_hits(train, test, (1, 5, 10))
            )
            found |= _figures(hits)
            answers |= {name: self._marks(told, test.rows) for name, told in hits.items()}
        measured = {f"val/{name}": value for name, value in found.items() if name.endswith(("_pct", "_pct_se"))}
        if damaged := self._quarantined - before:
            measured["val/quarantined_samples"] = damaged
        return Evaluation(measured, {f"val/{name}_pct": marks for name, marks in answers.items()})

    def _marks(self, hits: torch.Tensor, videos: torch.Tensor) -> list[str]:
        return as_marks(hits.tolist(), videos.tolist(), self._videos)

    @property
    def _quarantined(self) -> int:
        return sum(loader.statistics.quarantined for loader in (self._train, self._test, self._tuples))

    def _epoch(self, loader: ClipLoader, number: int) -> Iterator[ClipBatch]:
        """An epoch of a loader whose frames become clips as those of the others do."""
        self._path = loader.calibrate(self._path).path
        return loader.epoch(number)

    def close(self) -> None:
        """Close the loaders."""
        for loader in (self._train, self._test, self._tuples):
            loader.close()

    def __enter__(self) -> Self:
        """The evaluator itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the loaders."""
        self.close()


def _retrieval_hits(train: VideoFeatures, test: VideoFeatures, ks: tuple[int, ...]) -> dict[str, torch.Tensor]:
    found = retrieval_at_k(train.features, train.labels, test.features, test.labels, ks)
    return {f"retrieval_r{k}": hits for k, hits in found.items()}


def _figures(hits: dict[str, torch.Tensor]) -> dict[str, float]:
    """The accuracies of answers, one about each test video, and how many those are."""
    figures: dict[str, float] = {}
    for name, told in hits.items():
        figures |= {**accuracy(name, told), "test_videos": len(told)}
    return figures


@contextmanager
def _evaluating(network: Describer) -> Iterator[None]:
    """The network is in eval mode, without gradients, within the block; afterwards it is as it was."""
    was_training = network.training
    network.train(False)
    try:
        with torch.no_grad():
            yield
    finally:
        network.train(was_training)
