"""Teachers: frozen networks from a run, a checkpoint or weights from outside, checked against their student."""

from dataclasses import dataclass
from pathlib import Path

import torch

from pclkd.sharding.common.errors import InputError
from pclkd.sharding.shards.index import ShardIndex
from pclkd.training.models.outside import read_outside_model
from pclkd.training.models.pcl_model import PclModel
from pclkd.training.runs.checkpoint import Checkpoint, ForeignCheckpointError, load_checkpoint, load_model
from pclkd.training.settings import RunSettings

__all__ = ["Teacher", "check_data", "count_seen", "load_teacher"]


@dataclass(frozen=True)
class Teacher:
    """A frozen network to learn from.

    Attributes:
        path: where it came from.
        model: the network.
        banks: what its own run compared with, by name; None where it has none for this data.
        seen: test videos of the student's split that it was trained on, as `count_seen` tells.
    """

    path: Path
    model: PclModel
    banks: dict[str, torch.Tensor] | None
    seen: int | None = None


def load_teacher(path: Path, index: ShardIndex, rows: int, settings: RunSettings, key: str = "") -> Teacher:
    """A teacher for a student with these settings.

    Its memory banks are taken along only where they speak of the same videos. Weights from outside (the published PCL
    code's, torchvision's) bring none, and are taken to have learned from clips of the student's modality; `key` tells
    which network of several in such a file.

    Raises:
        InputError: it saw other inputs than the student will, its banks belong to other videos, or it lacks a head
            that a term of the distillation asks.
    """
    try:
        checkpoint = load_checkpoint(path)
    except ForeignCheckpointError:
        return _teacher_from_outside(path, settings, key)
    theirs, ours = checkpoint.settings, settings
    if theirs.loader.modality != ours.loader.modality:
        raise InputError(
            f"the teacher {path} learned from {theirs.loader.modality} clips, the student gets {ours.loader.modality}",
            remedy=f"--set loader.modality={theirs.loader.modality}",
        )
    if ours.kd.pretext_weight > 0 and theirs.pretext != ours.pretext:
        raise InputError(
            f"the teacher {path} learned the pretext task {theirs.pretext.task}, "
            f"the student learns {ours.pretext.task}",
            remedy=f"--set pretext.task={theirs.pretext.task}, or leave that term out: --set kd.pretext_weight=0",
        )
    banks = checkpoint.memory.get("student")
    if ours.kd.contrast_weight > 0:
        way_out = "or leave its banks out: --set kd.contrast_weight=0"
        chosen = ("split", "fraction", *(["fraction_seed"] if ours.fraction < 1 else []))
        for name in chosen:
            if (found := getattr(theirs, name)) != (wanted := getattr(ours, name)):
                raise InputError(
                    f"the teacher {path} remembers the videos of {name} {found}, the student has {name} {wanted}",
                    remedy=f"--set {name}={found}, {way_out}",
                )
        check_data(checkpoint, index, rows, f"the teacher {path}", way_out)
    else:
        banks = None
    seen = count_seen(checkpoint, index, ours.split)
    return Teacher(path=path, model=load_model(checkpoint, path), banks=banks, seen=seen)


def _teacher_from_outside(path: Path, settings: RunSettings, key: str) -> Teacher:
    outside = read_outside_model(path, key)
    for head, there, term in (
        ("pretext classifier", outside.has_pretext, "pretext"),
        ("projector", outside.has_projector, "contrast"),
    ):
        if getattr(settings.kd, f"{term}_weight") > 0 and not there:
            raise InputError(
                f"the teacher {path} ({outside.backbone}) has no {head}",
                remedy=f"leave that term out: --set kd.{term}_weight=0",
            )
    return Teacher(path=path, model=outside.model, banks=None)


def count_seen(checkpoint: Checkpoint, index: ShardIndex, split: int) -> int | None:
    """How many test videos of a split a run was trained on; None where its training videos are not known here.

    A split's own train part holds none of them, another split's may.
    """
    if checkpoint.fingerprint != index.fingerprint:
        return None
    tested = index.sample_split[:, [int(number) for number in index.manifest.splits].index(split)] == 2
    return int(tested[checkpoint.settings.train_samples(index)].sum())


def check_data(checkpoint: Checkpoint, index: ShardIndex, rows: int, what: str, way_out: str = "") -> None:
    """Refuse a checkpoint that belongs to other shards or to another number of training videos.

    Raises:
        InputError: with what it belongs to, and what there is.
    """
    if checkpoint.fingerprint != index.fingerprint or checkpoint.rows != rows:
        found = f"{index.fingerprint[:12]} with {rows} training videos"
        wanted = f"{checkpoint.fingerprint[:12]} with {checkpoint.rows}"
        raise InputError(
            f"{what} belongs to other data (shard set {wanted}; {index.root} is {found})",
            remedy=f"give the shards and split it was trained on{', ' + way_out if way_out else ''}",
        )
