"""PCL heads of a frozen network, in a file of their own: without the network, which is found by its name again."""

import io
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from pclkd.sharding.common.errors import InputError
from pclkd.sharding.common.files import write_bytes
from pclkd.training.frozen.network import StandardisedNetwork
from pclkd.training.models.base import Backbone
from pclkd.training.models.pcl_model import PclModel
from pclkd.training.models.weights_file import load_weights_file
from pclkd.training.settings import RunSettings

__all__ = ["HEADS_NAME", "FittedHeads", "heads_file", "model_with_heads", "read_heads", "with_fitted", "write_heads"]

HEADS_NAME = "heads.pt"
"""The file's name in the folder of `train-kd fit-heads`."""
_FORMAT = "pclkd heads 1"


@dataclass(frozen=True)
class FittedHeads:
    """What such a file holds.

    Attributes:
        teacher: the name of the network, or where it lies.
        key: which network of several in its file.
        changes: of its `TeacherSpec`.
        settings: that the heads were fitted with.
        heads: weights of the classifier and of the projector, mean and deviation of the features.
    """

    teacher: str
    key: str
    changes: dict[str, Any]
    settings: RunSettings
    heads: dict[str, torch.Tensor]


def heads_file(path: Path) -> Path | None:
    """The file of heads that a path means; None where it means something else."""
    file = path / HEADS_NAME if path.is_dir() else path
    return file if file.name == HEADS_NAME and file.is_file() else None


def model_with_heads(network: Backbone, settings: RunSettings) -> PclModel:
    """A network with fresh heads, drawn from torch's generator.

    Args:
        network: frozen here.
        settings: pretext task, its head and the length of an embedding.
    """
    task = settings.pretext.build()
    return PclModel(
        StandardisedNetwork(network),
        pretext_classes=0 if task is None else len(task.classes),
        embedding_dim=settings.pcl.embedding_dim,
        pretext_head=settings.pcl.pretext_head,
    )


def write_heads(
    folder: Path, model: PclModel, *, teacher: str, key: str, changes: dict[str, Any], settings: RunSettings
) -> Path:
    """Write what of a `model_with_heads` is not the network itself; whole or not there."""
    content = {
        "format": _FORMAT,
        "teacher": teacher,
        "key": key,
        "changes": json.dumps(changes),
        "settings": settings.model_dump_json(),
        "heads": {name: value.cpu() for name, value in model.state_dict().items() if _is_head(name)},
    }
    buffer = io.BytesIO()
    torch.save(content, buffer)
    folder.mkdir(parents=True, exist_ok=True)
    write_bytes(folder / HEADS_NAME, buffer.getvalue())
    return folder / HEADS_NAME


def read_heads(file: Path) -> FittedHeads:
    """Read what `write_heads` wrote. Only tensors and plain values are unpickled.

    Raises:
        InputError: no such file, or damaged.
    """
    try:
        content = load_weights_file(file)
        if content.pop("format") != _FORMAT:
            raise ValueError("of another format")
        settings = RunSettings.model_validate(json.loads(content.pop("settings")))
        return FittedHeads(settings=settings, changes=json.loads(content.pop("changes")), **content)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"{file} cannot be read as fitted heads ({error})",
            remedy="fit them again: train-kd fit-heads",
        ) from None


def with_fitted(fitted: FittedHeads, network: Backbone, file: Path) -> PclModel:
    """The network with its fitted heads.

    Raises:
        InputError: they were fitted on another network.
    """
    model = model_with_heads(network, fitted.settings)
    own = {name: value.shape for name, value in model.state_dict().items() if _is_head(name)}
    if own != {name: value.shape for name, value in fitted.heads.items()}:
        raise InputError(
            f"the heads in {file} do not fit {fitted.teacher}, whose features have {network.feature_dim} numbers",
            remedy="fit them again: train-kd fit-heads",
        )
    model.load_state_dict(fitted.heads, strict=False)
    return model


def _is_head(name: str) -> bool:
    return not name.startswith("base_network.network.")
