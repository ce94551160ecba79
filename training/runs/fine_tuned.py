"""A fine-tuned network, which names actions: RUN/finetuned.safetensors, with what it needs to be used."""

from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import nn

from pclkd.sharding.common.errors import InputError
from pclkd.sharding.common.files import no_device, write_bytes
from pclkd.sharding.common.settings import Settings
from pclkd.training.models.base import Backbone
from pclkd.training.models.memory_layout import layout_of
from pclkd.training.models.registry import build_backbone
from pclkd.training.models.weights_file import refuse_not_finite, room_for
from pclkd.training.runs.clip_form import ClipForm
from pclkd.training.settings import BackboneSettings

__all__ = ["FINE_TUNED_NAME", "Classifier", "FineTuned", "load_fine_tuned", "save_fine_tuned"]

FINE_TUNED_NAME = "finetuned.safetensors"
_NOTES = "pclkd"
_REMEDY = "fine-tune again: train-kd evaluate RUN --data SHARDS --protocol finetune"


class Classifier(nn.Module):
    """A backbone and one linear layer: clips [N, 3, T, H, W] -> logits [N, classes]."""

    def __init__(self, backbone: Backbone, classes: int) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = nn.Linear(backbone.feature_dim, classes)

    def forward(self, clips: torch.Tensor) -> torch.Tensor:
        """Float32 logits, whatever autocast does."""
        features = self.backbone(clips.contiguous(memory_format=layout_of(self.backbone))).float()
        with torch.autocast(clips.device.type, enabled=False):  # a logit may be too large for float16
            logits: torch.Tensor = self.head(features)
        return logits


class FineTuned(Settings):
    """What is known of a fine-tuned network beside its weights."""

    backbone: BackboneSettings
    """Its kind and width."""
    clips: ClipForm
    """What it is fed."""
    classes: tuple[str, ...]
    """Names of the actions, in the order of the logits."""


def save_fine_tuned(folder: Path, network: Classifier, notes: FineTuned) -> None:
    """Write a fine-tuned network into a run's folder, whole or not at all."""
    weights = {name: value.detach().cpu().contiguous() for name, value in network.state_dict().items()}
    write_bytes(folder / FINE_TUNED_NAME, save(weights, metadata={_NOTES: notes.model_dump_json()}))


def load_fine_tuned(run: Path) -> tuple[Classifier, FineTuned]:
    """The fine-tuned network of a run, in eval mode on the CPU, and what is known of it.

    Args:
        run: run folder, or the file itself.

    Raises:
        InputError: the run has none, or it cannot be read.
    """
    path = run / FINE_TUNED_NAME if run.is_dir() else run
    if not path.is_file():
        raise InputError(f"no fine-tuned network at {path}", remedy=_REMEDY.replace("RUN", str(run)))
    try:
        with safe_open(no_device(path), framework="pt") as file:
            notes = FineTuned.model_validate_json((file.metadata() or {})[_NOTES])
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is no mapping
        with room_for(weights):
            network = Classifier(build_backbone(notes.backbone.name, notes.backbone.width), len(notes.classes))
        network.load_state_dict(weights)
        refuse_not_finite(weights)
    except (SafetensorError, OSError, KeyError, RuntimeError, TypeError, ValueError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise InputError(f"{path} holds no fine-tuned network ({reason})", remedy=_REMEDY) from None
    return network.eval(), notes
