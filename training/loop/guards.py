"""Watching a run: figures that are not finite, and representations that collapse."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from pclkd.pipeline.batch import ClipBatch
from pclkd.sharding.common.files import atomic_write

__all__ = ["name_samples", "non_finite", "save_bundle", "signs_of_collapse"]

_TOLD_AT_MOST = 8


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


def name_samples(keys: Sequence[str]) -> str:
    """The first of them, and how many more there are."""
    more = f" and {len(keys) - _TOLD_AT_MOST} more" if len(keys) > _TOLD_AT_MOST else ""
    return ", ".join(keys[:_TOLD_AT_MOST]) + more


def signs_of_collapse(means: Mapping[str, float], classes: int, least_spread: float) -> list[str]:
    """Warnings about an epoch, empty where all is well.

    Args:
        means: of the epoch's figures by name: embedding_spread, agreement_pct.
        classes: of the pretext task, 0 without one.
        least_spread: see GuardSettings.
    """
    warnings = []
    spread = means.get("embedding_spread")
    if spread is not None and spread < least_spread:
        warnings.append(
            f"the embeddings collapse: their spread is {spread:.3f} (random directions have 1, warned below "
            f"{least_spread:g}); lower optimizer.lr, or raise pcl.contrast_weight"
        )
    agreement = means.get("agreement_pct")
    if agreement is not None and classes and agreement < 100 / classes:
        warnings.append(
            f"student and teacher agree on {agreement:.0f} % of the pretext answers, less than chance "
            f"({100 / classes:.0f} %); is it the right teacher for this modality and pretext task?"
        )
    return warnings
