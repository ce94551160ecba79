"""PCL heads for a frozen network: a short training of these alone, on the network's features.

    clips as the network sees them --(frozen)--> features --(minus mean, over deviation)--> classifier, projector

The classifier learns the pretext task, the projector the contrast, with the same objective as a run. The network then
teaches what a PCL teacher teaches, pretext and contrastive distributions, as far as its features tell.
"""

import json
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import torch

from pclkd.pipeline.batch import ClipBatch
from pclkd.pipeline.loader.loader import ClipLoader
from pclkd.pipeline.opening import clip_loader
from pclkd.pipeline.world import World
from pclkd.sharding.common.errors import InputError
from pclkd.sharding.common.files import check_place, write_text
from pclkd.sharding.common.settings import change
from pclkd.sharding.shards.index import ShardIndex
from pclkd.training.compute.distributed import choose_device
from pclkd.training.compute.precision import Precision
from pclkd.training.frozen.network import StandardisedNetwork
from pclkd.training.frozen.opening import family_of
from pclkd.training.loop.progress import say
from pclkd.training.models.memory_layout import placed
from pclkd.training.objective.objective import Objective
from pclkd.training.runs.heads import HEADS_NAME, model_with_heads, write_heads
from pclkd.training.runs.teachers import load_teacher, views_of
from pclkd.training.settings import RunSettings

__all__ = ["fit_heads"]

_MEASURED = 64  # batches at most that mean and deviation are taken from
_DECAY = 1e-4


def fit_heads(
    teacher: str,
    data: str | Path,
    out: Path,
    settings: RunSettings,
    *,
    epochs: int = 5,
    lr: float = 1e-3,
    key: str = "",
) -> dict[str, float]:
    """Fit a classifier of the pretext task and a projector on a frozen network, and write them.

    Args:
        teacher: the network: a name, a file from outside, or a run.
        data: the shard set.
        out: folder that is written: the heads, and the figures of each epoch.
        settings: data, pretext task, PCL; those of the optimiser are not heeded.
        epochs: passes over the training videos.
        lr: of AdamW, falling to 0 along a cosine.
        key: which network of several in a file.

    Returns:
        The figures of the last epoch.

    Raises:
        InputError: there is no such network, nothing that teaches heads, or there are heads in the folder already.
    """
    check_place(out)
    if (out / HEADS_NAME).exists():
        raise InputError(f"{out} already holds heads", remedy="change --out, or remove them")
    if settings.pcl.learner != "pcl":
        raise InputError(f"pcl.learner={settings.pcl.learner} has no heads that teach", remedy="--set pcl.learner=pcl")
    index, device = ShardIndex.open(data), choose_device(World())
    rows, changes = len(settings.train_samples(index)), dict(next(iter(settings.kd.teacher_specs), {}))
    alone = change(settings, {"kd.pretext_weight": 0.0, "kd.contrast_weight": 0.0})
    found = load_teacher(teacher, index, rows, alone, key, changes)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        model = placed(model_with_heads(found.model.base_network, settings), device, settings.layout)
    objective = Objective(model, rows, settings.pcl, settings.seed).to(device)
    precision = Precision(settings.precision, device)
    heads = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(heads, lr=lr, weight_decay=_DECAY)
    means: dict[str, float] = {}
    with clip_loader(index, settings, World(), device=device, moments=views_of([found])[0]) as loader:
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, max(1, epochs * len(loader)))
        standardised = model.base_network
        assert isinstance(standardised, StandardisedNetwork)
        with precision.autocast():
            # Of an epoch that is not learned from.
            seen = islice(_seen(loader, epochs), _MEASURED)
            standardised.measure(batch.clips.flatten(0, 1) for batch in seen)
        objective.train()
        for epoch in range(epochs):
            sums: dict[str, torch.Tensor] = {}
            for batch in _seen(loader, epoch):
                with precision.autocast():
                    losses = objective(batch)
                optimizer.zero_grad(set_to_none=True)
                precision.scaler.scale(losses["loss"]).backward()
                precision.scaler.step(optimizer)
                precision.scaler.update()
                schedule.step()
                sums = {name: sums.get(name, 0) + value.detach() for name, value in losses.items()}
            means = {name: float(value) / len(loader) for name, value in sums.items()}
            if not all(torch.isfinite(torch.tensor([*means.values()]))):
                raise InputError(f"epoch {epoch + 1}: a loss is not finite", remedy="lower --lr, or precision=fp32")
            told = ", ".join(f"{name} {value:.3f}" for name, value in means.items())
            say(f"heads of {teacher}: epoch {epoch + 1} of {epochs}: {told}")
    name = teacher if family_of(teacher) else str(Path(teacher).resolve())
    write_heads(out, model, teacher=name, key=key, changes=changes, settings=settings)
    told_of: dict[str, Any] = {"teacher": name, "spec": changes, "epochs": epochs, "figures": means}
    write_text(out / "heads.json", json.dumps(told_of, indent=2) + "\n")
    return means


def _seen(loader: ClipLoader, epoch: int) -> Iterator[ClipBatch]:
    """The batches of an epoch, as the network sees them."""
    for batch in loader.epoch(epoch):
        yield replace(batch, clips=batch.moments[0], moments=()) if batch.moments else batch
