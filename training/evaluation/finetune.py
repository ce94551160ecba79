"""Fine-tuning: the whole network learns the actions, then 10 uniformly spaced clips of each test video vote.

Source: the published protocol of PCL (arXiv 2010.15464): lr 1e-3, 150 epochs, batch 8, centre crop, mean of the logits.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import nn

from pclkd.pipeline.clips.covering import UniformRecipe
from pclkd.pipeline.clips.recipe import ViewsRecipe
from pclkd.pipeline.clips.sampling import ViewSettings
from pclkd.pipeline.opening import clip_loader
from pclkd.pipeline.pretext.base import TUPLE_VIEWS
from pclkd.pipeline.world import World
from pclkd.sharding.common.settings import Settings, change
from pclkd.sharding.shards.index import ShardIndex
from pclkd.training.compute.convolutions import check_convolutions
from pclkd.training.compute.precision import Precision
from pclkd.training.compute.schedules import Schedule
from pclkd.training.compute.settings import OptimizerSettings
from pclkd.training.compute.step import TrainStep
from pclkd.training.evaluation.accuracy import accuracy
from pclkd.training.models.base import Backbone
from pclkd.training.models.memory_layout import layout_of, placed
from pclkd.training.runs.clip_form import ClipForm
from pclkd.training.runs.fine_tuned import Classifier, FineTuned, save_fine_tuned
from pclkd.training.settings import RunSettings

__all__ = ["FinetuneSettings", "accuracy_figures", "finetune"]


class FinetuneSettings(Settings):
    """How to fine-tune; the defaults are the published ones."""

    epochs: int = Field(default=150, ge=1)
    """Passes over the training videos."""
    lr: float = Field(default=1e-3, gt=0, le=100)
    """Learning rate at the start; half a cosine to 0."""
    batch_size: int = Field(default=8, ge=1)
    """Videos a step."""
    clips: int = Field(default=10, ge=1, le=1000)
    """Test clips a video."""


class _Supervised(nn.Module):
    """Cross-entropy of the actions, as an objective."""

    def __init__(self, classifier: nn.Module) -> None:
        super().__init__()
        self.classifier = classifier

    def forward(self, batch: Any) -> dict[str, torch.Tensor]:
        return {"loss": F.cross_entropy(self.classifier(batch.clips[:, 0]), batch.label)}


def finetune(
    backbone: Backbone,
    index: ShardIndex,
    run: RunSettings,
    settings: FinetuneSettings,
    device: torch.device,
    step: Callable[[int, float], None] = lambda *_: None,
    keep: Path | None = None,
) -> dict[str, Any]:
    """Train on the split's train part, measure on its test part.

    Args:
        backbone: starts from these weights, which change.
        index: the shard set.
        run: split, clip shape, augmentation, modality, precision and seed.
        settings: of the fine-tuning.
        device: where to compute.
        step: called after each epoch with its number and mean loss.
        keep: folder that gets the fine-tuned network, for `load_fine_tuned`; made where it does not exist.

    Returns:
        See `accuracy_figures`.

    Raises:
        InputError: fewer training videos than a batch, or a device that computes convolutions wrongly.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(run.seed)
        network = placed(Classifier(backbone, len(index.classes)), device, run.layout)
    precision = Precision(run.precision, device)
    how = OptimizerSettings(lr=settings.lr, schedule="cosine")
    frames = run.tuples.clip_frames
    recipe = ViewsRecipe(run.seed, ViewSettings(clip_frames=frames, views=1), run.augment)
    changes: dict[str, Any] = {"recipe": recipe, "batch_size": settings.batch_size, "fraction": 1}
    with clip_loader(index, run, World(), device=device, **changes) as loader:
        clips = torch.zeros(loader.clips_shape, device=device)[:, 0].contiguous(memory_format=layout_of(backbone))
        check_convolutions(backbone, clips, precision)
        update = TrainStep(_Supervised(network), network, how, precision, settings.batch_size)
        schedule = Schedule(update.optimizer, how, settings.epochs, len(loader))
        for epoch in range(settings.epochs):
            network.train()
            losses = []
            for number, batch in enumerate(loader.epoch(epoch)):
                schedule.before_step(epoch, number)
                losses.append(update(batch)["loss"])
            step(epoch + 1, torch.stack(losses).mean().item())
        run = change(run, loader.calibrate().path.changes)  # the test clips come as these did
    if keep is not None:
        form = ClipForm.of(run, index.manifest.settings)
        keep.mkdir(parents=True, exist_ok=True)
        save_fine_tuned(keep, network, FineTuned(backbone=run.backbone, clips=form, classes=index.classes))
    return _measure(network, index, run, settings.clips, device, precision)


@torch.no_grad()
def _measure(
    network: nn.Module, index: ShardIndex, run: RunSettings, clips: int, device: torch.device, precision: Precision
) -> dict[str, Any]:
    network.eval()
    logits, labels = [], []
    recipe = UniformRecipe(views=clips, clip_frames=run.tuples.clip_frames)
    videos = max(1, run.loader.batch_size * TUPLE_VIEWS // clips)
    opened = clip_loader(index, run, World(), device=device, part="test", recipe=recipe, batch_size=videos)
    with opened as loader, precision.autocast():
        for batch in loader.epoch(0):
            said = network(batch.clips.flatten(0, 1)).reshape(len(batch.clips), clips, -1).mean(1)
            logits.append(said[: batch.valid].cpu())
            labels.append(batch.label[: batch.valid].cpu())
    return accuracy_figures(torch.cat(logits), torch.cat(labels), index.classes)


def accuracy_figures(logits: torch.Tensor, labels: torch.Tensor, classes: tuple[str, ...]) -> dict[str, Any]:
    """Top-1, top-5, accuracy by class, and the confusion matrix.

    Args:
        logits: [N, classes].
        labels: [N] int64.
        classes: their names.

    Returns:
        finetune_top1_pct and finetune_top5_pct in percent (top 5 counts all classes where there are fewer) with their
        standard errors, test_videos, by_class_pct (of the classes that occur), and confusion: [true][predicted] counts.
    """
    best = logits.topk(min(5, logits.shape[1]), dim=1).indices
    hits = best == labels[:, None]
    confusion = torch.zeros(len(classes), len(classes), dtype=torch.int64)
    confusion.index_put_((labels, best[:, 0]), torch.ones(len(labels), dtype=torch.int64), accumulate=True)
    totals = confusion.sum(1)
    return {
        **accuracy("finetune_top1", hits[:, 0]),
        **accuracy("finetune_top5", hits.any(1)),
        "test_videos": len(labels),
        "by_class_pct": {
            name: 100 * int(confusion[label, label]) / int(totals[label])
            for label, name in enumerate(classes)
            if totals[label]
        },
        "confusion": confusion.tolist(),
    }
