"""Checkpoints: everything a run needs to go on, in one file that is whole or not there."""

import io
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args

import torch

from pclkd.pipeline.config import Decode, Operators, PixelPath
from pclkd.sharding.common.errors import InputError, visible
from pclkd.sharding.common.files import parse_json, write_bytes
from pclkd.sharding.common.settings import change
from pclkd.training.compute.average import weights_of
from pclkd.training.models.pcl_model import PclModel
from pclkd.training.models.registry import build_backbone
from pclkd.training.models.weights_file import UnreadableWeightsError, load_weights_file, refuse_not_finite, room_for
from pclkd.training.settings import RunSettings

__all__ = [
    "CHECKPOINT_NAME",
    "Checkpoint",
    "ForeignCheckpointError",
    "build_model",
    "load_checkpoint",
    "load_model",
    "restoring",
    "save_checkpoint",
]


def build_model(settings: RunSettings, adapter_dims: Sequence[int] = (), grid_dims: Sequence[int] = ()) -> PclModel:
    """A network with fresh weights, drawn from torch's generator.

    Args:
        settings: of the run: backbone, pretext task, embedding.
        adapter_dims: feature length of each teacher whose features are to be matched.
        grid_dims: length of the local features of each teacher for which those are.

    Raises:
        InputError: an unknown backbone, or a pretext task that cannot be.
    """
    task = settings.pretext.build()
    return PclModel(
        build_backbone(settings.backbone.name, settings.backbone.width),
        pretext_classes=0 if task is None else len(task.classes),
        embedding_dim=settings.pcl.embedding_dim,
        adapter_dims=adapter_dims,
        forwards=settings.pcl.forwards,
        pretext_head=settings.pcl.pretext_head,
        learner=settings.pcl.learner,
        grid_dims=grid_dims,
    )


CHECKPOINT_NAME = "last.pt"
"""The checkpoint's name in a run folder."""
_FORMAT = 2


class ForeignCheckpointError(InputError):
    """A file that torch can read, and that this project did not write."""


@dataclass(frozen=True)
class Checkpoint:
    """The state of a run between two steps.

    Attributes:
        settings: of the run.
        fingerprint: of the shard set it was trained on.
        rows: training videos, rows of the memory banks.
        processes: that trained it.
        loader: the loader's state: the place in the epoch's order.
        epoch: the epoch under way, or the next one.
        epoch_step: steps of it that are done.
        step: steps done in all.
        epoch_sums: by figure, its sum over those steps of the epoch and how many of them had it, means of all ranks.
        best: highest measured figure so far, where one is watched.
        model: weights, as they are trained.
        memory: what student and teachers compare with, by owner, then by name.
        optimizer, schedule, scaler: their states.
        average: of `WeightAverage.state_dict()`; empty where the run keeps none.
        skipped: updates that were left out.
        damage: damaged samples and failed reads in those steps of the epoch, of all processes, by their tags.
        decode: where its frames are decoded, so that the rest of the run, and its evaluations, get the same pixels.
        operators: by which they are changed, for the same reason; runs of before kernels were there had DALI's.
    """

    settings: RunSettings
    fingerprint: str
    rows: int
    processes: int
    loader: dict[str, Any]
    epoch: int
    epoch_step: int
    step: int
    epoch_sums: dict[str, list[float]]
    best: float | None
    model: dict[str, torch.Tensor]
    memory: dict[str, dict[str, torch.Tensor]]
    optimizer: dict[str, Any]
    schedule: dict[str, Any]
    scaler: dict[str, Any]
    average: dict[str, torch.Tensor] = field(default_factory=dict)
    skipped: int = 0
    damage: dict[str, int] = field(default_factory=dict)
    decode: Decode = "auto"
    operators: Operators = "dali"

    @property
    def path(self) -> PixelPath:
        """How its frames became clips."""
        return PixelPath(self.decode, self.operators)

    def path_on(self, device: torch.device) -> PixelPath:
        """How frames shall become clips there: as its settings ask, else as the run did, if the device can."""
        return self.settings.loader.path.over(self.path) if device.type == "cuda" else PixelPath("cpu")


def save_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint: to a temporary name, synced, renamed."""
    content = {**checkpoint.__dict__, "settings": checkpoint.settings.model_dump_json(), "format": _FORMAT}
    buffer = io.BytesIO()
    torch.save(content, buffer)
    write_bytes(path, buffer.getvalue())


def load_checkpoint(path: Path | str) -> Checkpoint:
    """Read a checkpoint to the CPU. Only tensors and plain values are unpickled.

    Args:
        path: a run folder or a checkpoint file.

    Raises:
        ForeignCheckpointError: not a checkpoint of this project.
        InputError: nothing there, damaged, or of another format.
    """
    path = Path(path)
    file = path / CHECKPOINT_NAME if path.is_dir() else path
    if not file.is_file():
        raise InputError(
            f"no checkpoint at {file}",
            remedy="give the folder of a run that has saved one (train-kd pretrain or distill), or a checkpoint file",
        )
    try:
        content = load_weights_file(file)
    except UnreadableWeightsError as error:
        raise _unreadable(file, error) from None
    if not isinstance(content, dict) or "format" not in content or "settings" not in content:
        raise ForeignCheckpointError(f"{file} is not a checkpoint of train-kd", remedy="give a run folder of train-kd")
    found = content.pop("format")
    if not isinstance(found, int) or found != _FORMAT:
        raise InputError(
            f"{file} has checkpoint format {found}, this version reads {_FORMAT}",
            remedy="use the version of pclkd that wrote it",
        )
    try:
        settings = RunSettings.model_validate(parse_json(content["settings"]))
        # Where pieces of remote shards are kept is this machine's to say: a file must not choose where is written.
        content["settings"] = change(settings, {"loader.cache_dir": None})
        checkpoint = Checkpoint(**content)
        _check_fields(checkpoint)
    except (ValueError, TypeError) as error:
        raise _unreadable(file, error) from None
    return checkpoint


_WHOLE = {"rows", "processes", "epoch", "epoch_step", "step", "skipped"}
_CHOICES = {"decode": get_args(Decode), "operators": get_args(Operators)}
_TENSORS = {"model", "average"}


def _check_fields(checkpoint: Checkpoint) -> None:
    """Refuse fields of other types than `save_checkpoint` writes.

    Raises:
        ValueError: which one.
    """
    for name, value in vars(checkpoint).items():
        if name in _WHOLE:
            fine = _is_count(name, value)
        elif name in _TENSORS:
            fine = _named_tensors(value)
        elif name in _CHOICES:
            fine = isinstance(value, str) and value in _CHOICES[name]
        elif name == "damage":
            fine = isinstance(value, dict) and all(_is_count(tag, count) for tag, count in value.items())
        elif name == "memory":
            fine = isinstance(value, dict) and all(map(_named_tensors, value.values()))
        else:
            kinds = {"settings": RunSettings, "fingerprint": str, "best": float | None}
            fine = isinstance(value, kinds.get(name, dict))
        if not fine:
            raise ValueError(f"{name} is {visible(repr(value), 80)}")
    for name, total in checkpoint.epoch_sums.items():
        if not (isinstance(name, str) and isinstance(total, list) and [type(part) for part in total] == [float] * 2):
            raise ValueError(f"epoch_sums holds {name} = {visible(repr(total), 80)}")


def _is_count(name: Any, value: Any) -> bool:
    return isinstance(name, str) and type(value) is int and 0 <= value < 2**63


def _named_tensors(value: Any) -> bool:
    if not isinstance(value, dict):
        return False
    return all(isinstance(name, str) and isinstance(tensor, torch.Tensor) for name, tensor in value.items())


@contextmanager
def restoring(source: Path | str) -> Iterator[None]:
    """Turn what the parts of a run raise at a state that does not fit them into one line.

    Raises:
        InputError: from `source`, with the reason.
    """
    try:
        yield
    except (AttributeError, IndexError, KeyError, OverflowError, RuntimeError, TypeError, ValueError) as error:
        raise InputError(
            f"{source}: its state does not fit the run ({type(error).__name__}: {_first_line(error)})",
            remedy="resume from a checkpoint that train-kd wrote with these settings, or train again",
        ) from None


def _unreadable(file: Path, error: Exception) -> InputError:
    return InputError(
        f"{file} cannot be read as a checkpoint ({_first_line(error)})",
        remedy="train again, or take another copy of the file",
    )


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), "damaged")


def _dims(weights: Mapping[str, torch.Tensor], maps: str) -> list[int]:
    """What each of a student's maps to its teachers gives."""
    count = sum(re.fullmatch(rf"{maps}\.\d+\.weight", key) is not None for key in weights)
    return [weights[f"{maps}.{number}.weight"].shape[0] for number in range(count)]


def load_model(checkpoint: Checkpoint, source: Path | str, *, trained: bool = False) -> PclModel:
    """The network of a checkpoint, with its heads: the moving average of its weights, where the run keeps one.

    Args:
        checkpoint: the checkpoint.
        source: where it came from, for messages.
        trained: the weights that training goes on with, not their average.

    Raises:
        InputError: the weights do not fit the network that its settings name; missing and unexpected keys are listed.
    """
    settings = checkpoint.settings
    # Which teachers' features a student was to match stands in no setting: the weights tell.
    weights = checkpoint.model if trained or not checkpoint.average else weights_of(checkpoint.average)
    try:
        dims = [_dims(weights, maps) for maps in ("adapters", "grid_adapters")]
        with room_for(weights):
            model = build_model(settings, *dims)
        model.load_state_dict(weights)
        refuse_not_finite(weights)
    except (IndexError, KeyError, RuntimeError, TypeError, ValueError) as error:
        details = "; ".join(line.strip() for line in str(error).splitlines()[1:4]) or str(error)
        network = f"{settings.backbone.name} of width {settings.backbone.width}"
        raise InputError(
            f"{source}: the weights do not fit a {network} ({details})",
            remedy="give a checkpoint that train-kd wrote",
        ) from None
    return model
