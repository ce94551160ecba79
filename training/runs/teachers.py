"""Teachers: frozen networks from a run, a file from outside or a library, checked against their student."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from pclkd.pipeline.clips.moments import MomentView
from pclkd.sharding.common.errors import InputError
from pclkd.sharding.common.settings import change
from pclkd.sharding.shards.index import ShardIndex
from pclkd.training.frozen.opening import family_of, open_network
from pclkd.training.frozen.spec import TeacherSpec, overridden
from pclkd.training.models.outside import read_outside_model
from pclkd.training.models.pcl_model import PclModel, PclOutput
from pclkd.training.runs.checkpoint import Checkpoint, ForeignCheckpointError, load_checkpoint, load_model
from pclkd.training.runs.heads import heads_file, read_heads, with_fitted
from pclkd.training.settings import RunSettings

__all__ = ["Teacher", "check_data", "count_seen", "load_teacher", "views_of"]


@dataclass(frozen=True)
class Teacher:
    """A frozen network to learn from.

    Attributes:
        name: the path that it came from, or the name of a network from elsewhere.
        model: the network; without a pretext classifier or a projector where it brings none.
        banks: what its own run compared with, by name; None where it has none for this data.
        seen: test videos of the student's split that it was trained on, as `count_seen` tells.
        view: how it sees a moment; None: exactly the student's clips.
        answers: what it says of the videos at [B] positions, where it is not asked any more.
    """

    name: str
    model: PclModel
    banks: dict[str, torch.Tensor] | None = None
    seen: int | None = None
    view: MomentView | None = None
    answers: Callable[[torch.Tensor], PclOutput] | None = None


def views_of(teachers: Sequence[Teacher]) -> tuple[tuple[MomentView, ...], list[int | None]]:
    """The views that a loader has to make for them, each once, and for each teacher which one it sees."""
    views = tuple(dict.fromkeys(teacher.view for teacher in teachers if teacher.view is not None))
    return views, [None if teacher.view is None else views.index(teacher.view) for teacher in teachers]


def load_teacher(
    name: str | Path,
    index: ShardIndex,
    rows: int,
    settings: RunSettings,
    key: str = "",
    changes: Mapping[str, Any] | None = None,
) -> Teacher:
    """A teacher for a student with these settings.

    A run's memory banks are taken along only where they speak of the same videos, and a run on another modality gets
    its own view of each clip. Weights from outside (the published PCL code's, torchvision's) bring no banks, and are
    taken to have learned from clips such as the student's. Networks from elsewhere (`timm:...`) see what their family
    sees.

    Args:
        name: a run folder, a file, or the name of a network from elsewhere.
        index: the shard set.
        rows: training videos.
        settings: of the student's run.
        key: which network of several in a file from outside.
        changes: of what is known of how it sees, `kd.teacher_specs`.

    Raises:
        InputError: it cannot be had, a key of one that is alone, or its banks belong to other videos.
    """
    changes = changes or {}
    if family_of(str(name)):
        _check_key(name, key)
        network = open_network(str(name), changes)
        return Teacher(str(name), PclModel(network, pretext_classes=0, embedding_dim=0), view=network.spec.view)
    path = Path(name)
    if (file := heads_file(path)) is not None:
        _check_key(path, key)
        return _with_heads(file, index, rows, settings, changes)
    try:
        checkpoint = load_checkpoint(path)
    except ForeignCheckpointError:
        view = _view(settings, settings, changes, str(path))
        return Teacher(str(path), _outside_model(path, key), view=view)
    _check_key(path, key)
    theirs, ours = checkpoint.settings, settings
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
        for setting in chosen:
            if (found := getattr(theirs, setting)) != (wanted := getattr(ours, setting)):
                raise InputError(
                    f"the teacher {path} remembers the videos of {setting} {found}, the student has {setting} {wanted}",
                    remedy=f"--set {setting}={found}, {way_out}",
                )
        check_data(checkpoint, index, rows, f"the teacher {path}", way_out)
    else:
        banks = None
    view = _view(theirs, ours, changes, str(path))
    return Teacher(str(path), load_model(checkpoint, path), banks, count_seen(checkpoint, index, ours.split), view)


def _check_key(name: str | Path, key: str) -> None:
    """Refuse a key where there is nothing to choose."""
    if key:
        raise InputError(
            f"--teacher-key {key} does not go with {name}, which is one network",
            remedy="leave it out, or give one for each teacher, '' for this one",
        )


def _with_heads(file: Path, index: ShardIndex, rows: int, settings: RunSettings, changes: Mapping[str, Any]) -> Teacher:
    """A frozen network with the heads that were fitted on it."""
    fitted = read_heads(file)
    if settings.kd.pretext_weight > 0 and fitted.settings.pretext != settings.pretext:
        raise InputError(
            f"the heads in {file} learned the pretext task {fitted.settings.pretext.task}, the student learns "
            f"{settings.pretext.task}, or the same one otherwise",
            remedy="fit heads for it, or leave that term out: --set kd.pretext_weight=0",
        )
    theirs = fitted.settings.loader.modality
    if theirs != settings.loader.modality and not family_of(fitted.teacher):
        changes = {"modality": theirs, **changes}
    bare = change(settings, {"kd.pretext_weight": 0.0, "kd.contrast_weight": 0.0})
    found = load_teacher(fitted.teacher, index, rows, bare, fitted.key, {**fitted.changes, **changes})
    return Teacher(str(file.parent), with_fitted(fitted, found.model.base_network, file), view=found.view)


def _view(theirs: RunSettings, ours: RunSettings, changes: Mapping[str, Any], name: str) -> MomentView | None:
    """How a network that learned with `theirs` sees a moment; None where the student's clips will do."""
    modality = theirs.loader.modality
    if modality == ours.loader.modality and not changes:
        return None
    spec = TeacherSpec(frames=theirs.tuples.clip_frames, size=theirs.loader.crop, modality=modality)
    return overridden(spec, changes, name).view


def _outside_model(path: Path, key: str) -> PclModel:
    """The network of a file, without heads that the file does not hold."""
    outside = read_outside_model(path, key)
    model = outside.model
    if not outside.has_pretext:
        model.fc, model.pretext_classes = None, 0
    if not outside.has_projector:
        model.projector, model.embedding_dim = None, 0
    return model


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
