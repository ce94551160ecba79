"""A trained backbone for use elsewhere: from a run, an exported folder, or a file of published weights."""

from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file

from pclkd.sharding.common.errors import InputError
from pclkd.sharding.common.files import no_device
from pclkd.training.models.base import Backbone
from pclkd.training.models.outside import read_outside_model
from pclkd.training.models.registry import build_backbone
from pclkd.training.models.weights_file import refuse_not_finite, room_for
from pclkd.training.runs.checkpoint import ForeignCheckpointError, load_checkpoint, load_model
from pclkd.training.runs.trusted import read_object

__all__ = ["CARD_FORMAT", "CARD_NAME", "WEIGHTS_NAME", "load_backbone"]

CARD_NAME = "card.json"
WEIGHTS_NAME = "backbone.safetensors"
CARD_FORMAT = 1
"""Of the card."""


def load_backbone(path: Path | str, key: str = "") -> Backbone:
    """A trained backbone, ready to use: [N, 3, T, H, W] normalised clips -> [N, feature_dim] features, eval mode.

    Args:
        path: a run folder of train-kd or its checkpoint, a folder that train-kd export wrote, or a file of weights of
            the published PCL code or of torchvision, whatever wraps them.
        key: which network of several in such a file: the prefix of its keys.

    Raises:
        InputError: nothing there that can be read, or weights that do not fit the network that they name.
    """
    path = Path(path)
    if (path / CARD_NAME).exists():
        return _load_exported(path).eval()
    try:
        return load_model(load_checkpoint(path), path).base_network.eval()
    except ForeignCheckpointError:
        return read_outside_model(path, key).model.base_network.eval()


def _load_exported(folder: Path) -> Backbone:
    path = folder / CARD_NAME
    try:
        card = read_object(path)
        name, width = str(card["backbone"]["name"]), float(card["backbone"]["width"])
    except (ValueError, KeyError, TypeError, OverflowError) as error:
        raise InputError(f"{path} cannot be read as a card ({error})", remedy="export again: train-kd export") from None
    if card.get("format") != CARD_FORMAT:
        raise InputError(
            f"{path} has format {card.get('format')!r}, this version reads {CARD_FORMAT}",
            remedy="export again: train-kd export",
        )
    try:
        weights = load_file(no_device(folder / WEIGHTS_NAME))
        with room_for(weights):
            backbone = build_backbone(name, width)
        backbone.load_state_dict(weights)
        refuse_not_finite(weights)
    except (OSError, SafetensorError, RuntimeError, ValueError, TypeError) as error:
        reason = (str(error).splitlines() or ["damaged"])[0]
        raise InputError(
            f"{folder / WEIGHTS_NAME} does not hold a {name} of width {width} ({reason})",
            remedy="export again: train-kd export",
        ) from None
    return backbone
