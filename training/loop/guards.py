"""Watching a run: figures that are not finite, and representations that collapse."""

import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from pclkd.pipeline.batch import ClipBatch
from pclkd.sharding.common.errors import InputError
from pclkd.sharding.common.files import atomic_write
from pclkd.training.loop.figures import StepFigures
from pclkd.training.loop.plan import RunPlan
from pclkd.training.loop.progress import say
from pclkd.training.settings import RunSettings

__all__ = ["non_finite", "report_non_finite", "save_bundle", "signs_of_collapse"]

_TOLD_AT_MOST = 8
_VAGUE = 0.9  # entropy of a teacher over ln N from which on it is to blame
_CHANCE = 0.95  # share of the loss of a guess
_ERRORS = 2  # standard errors below chance from which on answers are no accident


def non_finite(figures: Mapping[str, float]) -> list[str]:
    """The names of the figures that are not finite."""
    return [name for name, value in figures.items() if not math.isfinite(value)]


def save_bundle(folder: Path, step: int, figures: Mapping[str, float], batches: Sequence[ClipBatch]) -> Path:
    """Save what led to figures that are not finite: `RUN/non-finite-step-N.pt`, readable with weights_only.

    Args:
        folder: of the run.
        step: number of the step, from 1.
        figures: of the step.
        batches: it learned from.

    Returns:
        The file: clips, pretext_label and sample_index of all batches, epoch, step, figures.
    """
    path = folder / f"non-finite-step-{step:07d}.pt"
    content = {
        "step": step,
        "epoch": batches[0].epoch,
        "figures": dict(figures),
        "clips": torch.cat([batch.clips.cpu() for batch in batches]),
        "pretext_label": torch.cat([batch.pretext_label.cpu() for batch in batches]),
        "sample_index": torch.cat([batch.sample_index.cpu() for batch in batches]),
    }
    with atomic_write(path) as file:
        torch.save(content, file)
    return path


def report_non_finite(plan: RunPlan, bad: Sequence[str], step: StepFigures) -> None:
    """Save the batch of a step, and stop or say so; each rank knows of its own samples alone.

    Args:
        plan: of the run.
        bad: names of the figures that are not finite.
        step: with its batches.

    Raises:
        InputError: the run shall stop.
    """
    positions = torch.cat([batch.sample_index for batch in step.batches]).tolist()
    keys = [plan.index.key(int(plan.samples[position])) for position in positions]
    more = f" and {len(keys) - _TOLD_AT_MOST} more" if len(keys) > _TOLD_AT_MOST else ""
    what = ", ".join(f"{name} is {step.figures[name]}" for name in bad)
    bundle = save_bundle(plan.folder, step.step, step.figures, step.batches)
    told = f"step {step.step}: {what}; samples {', '.join(keys[:_TOLD_AT_MOST])}{more}; saved in {bundle}"
    if plan.settings.guards.non_finite == "stop":
        raise InputError(
            told,
            remedy="lower --set optimizer.lr, use --set precision=fp32, or --set guards.non_finite=skip; the last "
            "checkpoint is untouched",
        )
    say(f"warning: {told}; the update is left out")


def signs_of_collapse(
    means: Mapping[str, float], classes: int, steps: int, batch: int, settings: RunSettings
) -> list[str]:
    """Warnings about an epoch, empty where all is well.

    Args:
        means: of the epoch's figures by name.
        classes: of the pretext task, 0 without one.
        steps: updates of the epoch.
        batch: samples an update, of all processes.
        settings: of the run; `guards.least_spread` is the spread below which embeddings count as collapsed.
    """
    warnings = []
    spread, least = means.get("embedding_spread"), settings.guards.least_spread
    # An embedding that no term learns stays in the narrow cone that it started in, and harms nothing.
    learned = not {"contrast", "kd_contrast", settings.pcl.learner, *settings.pcl.own_terms}.isdisjoint(means)
    if spread is not None and spread < least and learned:
        warnings.append(
            f"the embeddings collapse: their spread is {spread:.3f} (random directions have 1, warned below "
            f"{least:g}); {_cause(means, batch, settings)}"
        )
    agreement = means.get("agreement_pct")
    if agreement is not None and classes:
        chance = 1 / classes
        error = math.sqrt(chance * (1 - chance) / (steps * batch))
        if agreement < 100 * (chance - _ERRORS * error):
            warnings.append(
                f"student and teacher agree on {agreement:.0f} % of the pretext answers, less than chance "
                f"({100 * chance:.0f} %); is it the right teacher for this modality and pretext task?"
            )
    return warnings


def _cause(means: Mapping[str, float], batch: int, settings: RunSettings) -> str:
    """Why embeddings collapse, as far as the figures tell, and what helped where it was tried."""
    pcl, kd = settings.pcl, settings.kd
    entropies = [value for name, value in means.items() if re.fullmatch(r"teacher\d*_entropy_contrast", name)]
    if max(entropies, default=0) > _VAGUE:
        return (
            f"their teacher's contrastive distribution is uniform to {max(entropies):.3f}, which collapse imitates "
            f"best: --set kd.contrast_weight=0, or sharpen it by --set kd.contrast_teacher_temperature= "
            f"({kd.contrast_teacher_temperature or pcl.nce_temperature:g} here)"
        )
    others = {"bank": pcl.negatives, "queue": pcl.queue_size}.get(pcl.contrast)
    chance = 2 * math.log(1 + others) if others else math.inf
    if means.get("contrast", 0.0) > _CHANCE * chance:
        start = "--set pcl.bank_start=network, or " if (pcl.contrast, pcl.bank_start) == ("bank", "random") else ""
        return (
            f"contrast is at chance ({means['contrast']:.2f}, 2 ln(1 + {others}) = {chance:.2f}), for the "
            f"{pcl.contrast} remembers too little of the videos yet: {start}--set pcl.contrast=in_batch --set "
            "pcl.nce_temperature=0.1"
        )
    lr, scaled = settings.optimizer.lr, settings.optimizer.scaled_lr(batch)
    for_batch = f", {scaled:.3g} for a batch of {batch}" if scaled != lr else ""
    return (
        f"a rate that is too high does that, or a temperature that is too low: lower --set optimizer.lr "
        f"({lr:g} here{for_batch}), or raise --set pcl.nce_temperature ({pcl.nce_temperature:g} here)"
    )
