"""Runs that cannot be, or that would learn nothing of what they were asked for, told before anything is written."""

from collections.abc import Collection

import torch

from pclkd.pipeline.world import World
from pclkd.sharding.common.errors import InputError
from pclkd.sharding.shards.index import ShardIndex
from pclkd.training.models.pcl_model import FIRST, THIRD
from pclkd.training.models.registry import build_backbone
from pclkd.training.objective.terms import Term
from pclkd.training.settings import RunSettings

__all__ = ["check_clips", "check_labels", "check_pretext", "check_terms"]


def check_labels(settings: RunSettings, index: ShardIndex) -> None:
    """Without labels the pretext task alone can be measured."""
    if settings.evaluation.every and settings.pretext.task == "none":
        index.require_labels("measuring a run without a pretext task (evaluation.every)")
    if settings.checkpoint.best not in ("", "val/pretext_top1_pct"):
        index.require_labels(f"checkpoint.best={settings.checkpoint.best}")


def check_clips(settings: RunSettings) -> None:
    """Refuse a backbone that does not exist, or whose pooling leaves nothing of these clips."""
    with torch.device("meta"):  # the shape of a network without its numbers
        backbone = build_backbone(settings.backbone.name, settings.backbone.width)
    if settings.tuples.clip_frames < backbone.least_frames:
        raise InputError(
            f"{settings.backbone.name} needs clips of {backbone.least_frames} frames, "
            f"tuples.clip_frames is {settings.tuples.clip_frames}",
            remedy=f"--set tuples.clip_frames={backbone.least_frames}, or another backbone",
        )


def check_pretext(settings: RunSettings) -> None:
    """Refuse a pretext task that leaves contrast no two clips, and a head that has nothing to compare with."""
    alone = settings.loader.batch_size == 1 and not settings.sync_batch_norm
    if alone and settings.pretext.task != "none" and settings.pcl.pretext_head == "compare":
        raise InputError(
            "loader.batch_size=1 leaves the batch norm of pcl.pretext_head=compare a single value",
            remedy="--set loader.batch_size=2 or more, or --set pcl.pretext_head=linear",
        )
    recipe = settings.tuple_recipe()
    contrasted = settings.pcl.contrast != "none" and settings.pcl.contrast_weight > 0
    contrasted = contrasted or settings.pcl.learner != "pcl"
    if contrasted and not {FIRST, THIRD} <= set(recipe.contrast_views):
        raise InputError(
            f"pretext.task={settings.pretext.task} with pretext.changed={settings.pretext.changed} leaves no two clips "
            "clean for contrast",
            remedy="--set pretext.changed=middle, or --set pcl.contrast=none",
        )


def check_terms(settings: RunSettings, chosen: Collection[type[Term]], taught: bool, world: World) -> None:
    """Refuse runs that would train without a word, and learn nothing of what they were asked for."""
    if not chosen:
        raise InputError("no term of the loss is left", remedy="--set pcl.pretext_weight=1, or pcl.contrast=bank")
    if taught and not any(term.asks_teachers for term in chosen):
        raise InputError(
            "no term of the loss asks the teacher",
            remedy="--set kd.pretext_weight=1, kd.contrast_weight or kd.feature_weight, or take train-kd pretrain",
        )
    alone = settings.loader.batch_size * world.size == 1
    if alone and settings.pcl.contrast == "in_batch" and any(term.asks_contrast for term in chosen):
        raise InputError(
            "pcl.contrast=in_batch with one sample a step has nothing to contrast it with",
            remedy="--set loader.batch_size=2 or more, or --set pcl.contrast=bank",
        )
