"""A trained backbone for use elsewhere: from a run, an exported folder, the hub, or a file of published weights."""

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
from pclkd.training.runs.clip_form import ClipForm
from pclkd.training.runs.trusted import read_object
from pclkd.training.settings import BackboneSettings

__all__ = ["CARD_FORMAT", "CARD_NAME", "WEIGHTS_NAME", "load_backbone", "load_clip_form"]

CARD_NAME = "config.json"
WEIGHTS_NAME = "model.safetensors"
"""As the hub calls them."""
HUB = "hf:"
CARD_FORMAT = 1
"""Of the card."""
_EXPORT_AGAIN = "export again: train-kd export"


def load_backbone(path: Path | str, key: str = "") -> Backbone:
    """A trained backbone, ready to use: [N, 3, T, H, W] normalised clips -> [N, feature_dim] features, eval mode.

    Args:
        path: a run folder of train-kd or its checkpoint, a folder that train-kd export wrote, such a folder on the
            Hugging Face hub (`hf:user/name`, `hf:user/name@revision`; nothing is fetched, it must be in the cache), or
            a file of weights of the published PCL code or of torchvision, whatever wraps them.
        key: which network of several in such a file: the prefix of its keys.

    Raises:
        InputError: nothing there that can be read, or weights that do not fit the network that they name.
    """
    path = _found(path)
    if (path / CARD_NAME).exists():
        return _load_exported(path).eval()
    try:
        return load_model(load_checkpoint(path), path).base_network.eval()
    except ForeignCheckpointError:
        return read_outside_model(path, key).model.base_network.eval()


def load_clip_form(path: Path | str) -> ClipForm:
    """What the backbone at a path, as `load_backbone` takes it, is fed; of weights from outside the published form.

    Raises:
        InputError: nothing there that can be read.
    """
    path = _found(path)
    if (path / CARD_NAME).exists():
        return _read_card(path)[1]
    try:
        return ClipForm.of_run(path, load_checkpoint(path).settings)
    except ForeignCheckpointError:
        return ClipForm()


def _found(path: Path | str) -> Path:
    """A path on this machine: of what is on the hub, where its cache has it."""
    if not str(path).startswith(HUB):
        return Path(path)
    name, _, revision = str(path).removeprefix(HUB).partition("@")
    try:
        from huggingface_hub import snapshot_download
        from huggingface_hub.constants import HF_HUB_CACHE
        from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError
    except ImportError:
        raise InputError(f"{path} needs huggingface_hub", remedy="pip install 'pclkd[hub]'") from None
    try:
        return Path(snapshot_download(name, revision=revision or None, local_files_only=True))
    except (HFValidationError, LocalEntryNotFoundError):
        raise InputError(
            f"{path} is not in the cache {HF_HUB_CACHE}",
            remedy=f"fetch it: hf download {name}{f' --revision {revision}' if revision else ''}",
        ) from None


def _read_card(folder: Path) -> tuple[BackboneSettings, ClipForm]:
    path = folder / CARD_NAME
    try:
        card = read_object(path)
        if card["format"] != CARD_FORMAT:
            raise InputError(
                f"{path} has format {card['format']!r}, this version reads {CARD_FORMAT}", remedy=_EXPORT_AGAIN
            )
        backbone = {name: card["backbone"][name] for name in BackboneSettings.model_fields}
        return BackboneSettings(**backbone), ClipForm(**card["clips"])
    except (ValueError, KeyError, TypeError, OverflowError) as error:
        raise InputError(f"{path} cannot be read as a card ({error})", remedy=_EXPORT_AGAIN) from None


def _load_exported(folder: Path) -> Backbone:
    kind, _ = _read_card(folder)
    try:
        weights = load_file(no_device(folder / WEIGHTS_NAME))
        with room_for(weights):
            backbone = build_backbone(kind.name, kind.width)
        backbone.load_state_dict(weights)
        refuse_not_finite(weights)
    except (OSError, SafetensorError, RuntimeError, ValueError, TypeError) as error:
        reason = (str(error).splitlines() or ["damaged"])[0]
        raise InputError(
            f"{folder / WEIGHTS_NAME} does not hold a {kind.name} of width {kind.width} ({reason})",
            remedy=_EXPORT_AGAIN,
        ) from None
    return backbone
