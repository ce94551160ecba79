"""Weights that were trained elsewhere: the published PCL code's checkpoints and torchvision's own.

What a file holds is told by its keys: `base_network.*`, `fc.*` and `projector.mlp.*` (published code; a `module.`
before them is what DistributedDataParallel adds), a backbone's keys alone, or torchvision's.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from pclkd.pipeline.pretext.base import TUPLE_VIEWS
from pclkd.sharding.common.errors import InputError
from pclkd.training.models.base import Backbone
from pclkd.training.models.pcl_model import PclModel
from pclkd.training.models.registry import BACKBONE_NAMES, build_backbone
from pclkd.training.models.torchvision import TORCHVISION_NAMES, TorchvisionBackbone

__all__ = ["OutsideModel", "read_outside_model"]

State = dict[str, torch.Tensor]

_WRAPPERS = ("state_dict", "model_state_dict", "model", "net", "network")
_PREFIXES = ("module.", "_orig_mod.")
_TRUNK = "base_network."
_HEADS = ("fc.", "projector.")
_NAMED_AT_MOST = 6


@dataclass(frozen=True)
class OutsideModel:
    """A network from a file that this project did not write.

    Attributes:
        model: the network; heads that the file does not hold have fresh weights.
        backbone: the backbone's name.
        has_pretext: whether the file holds a pretext classifier (`fc`).
        has_projector: whether it holds a projector.
    """

    model: PclModel
    backbone: str
    has_pretext: bool
    has_projector: bool


def read_outside_model(path: Path) -> OutsideModel:
    """Read a state dict and build the network that it belongs to. Only tensors and plain values are unpickled.

    Raises:
        InputError: not a file of weights, or weights of no known network; the keys that are missing and unexpected in
            the nearest one are listed.
    """
    state = _read_state(path)
    name, trunk = _recognise(path, {key.removeprefix(_TRUNK): value for key, value in state.items()})
    heads = {key: value for key, value in state.items() if key.startswith(_HEADS)}
    return _with_heads(path, name, trunk, {} if name in TORCHVISION_NAMES else heads)


def _read_state(path: Path) -> State:
    if not path.is_file():
        raise InputError(f"no file of weights at {path}", remedy="give a checkpoint file")
    try:
        content: Any = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch's reader raises whatever a damaged file leads it to
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise InputError(
            f"{path} cannot be read as weights ({reason})",
            remedy="give a state dict written by torch.save; other pickles are refused because they can run code",
        ) from None
    while isinstance(content, Mapping) and (inner := next((key for key in _WRAPPERS if key in content), None)):
        content = content[inner]
    if not isinstance(content, Mapping) or not content or not all(map(torch.is_tensor, content.values())):
        raise InputError(
            f"{path} holds no state dict", remedy=f"save tensors by name, alone or under one of {', '.join(_WRAPPERS)}"
        )
    state = {str(key): value for key, value in content.items()}
    while prefix := next((p for p in _PREFIXES if all(key.startswith(p) for key in state)), None):
        state = {key.removeprefix(prefix): value for key, value in state.items()}
    return state


def _recognise(path: Path, state: State) -> tuple[str, Backbone]:
    """The backbone whose keys and shapes these are, with the weights in it."""
    trunk = {key: value for key, value in state.items() if not key.startswith(_HEADS)}
    complaints: list[tuple[int, str, str]] = []
    for name in BACKBONE_NAMES:
        with torch.device("meta"):
            backbone = build_backbone(name)
        wanted = _shapes(backbone)
        found = {key: tuple(value.shape) for key, value in trunk.items() if not key.startswith("classifier.")}
        # Older files lack the counters of batch norms, which nothing here uses.
        missing = [key for key in wanted if key not in found and not key.endswith("num_batches_tracked")]
        unexpected = [key for key in found if key not in wanted]
        shapes = [
            f"{key} {found[key]} for {wanted[key]}" for key in found if key in wanted and found[key] != wanted[key]
        ]
        if not (missing or unexpected or shapes):
            return name, _filled(name, trunk)
        wrong = len(missing) + len(unexpected) + len(shapes)
        told = (("missing", missing), ("unexpected", unexpected), ("of another shape", shapes))
        complaints.append((wrong, name, "; ".join(f"{what}: {_some(keys)}" for what, keys in told if keys)))
    _, nearest, differences = min(complaints)
    raise InputError(
        f"{path} fits no known network; nearest is {nearest}: {differences}",
        remedy=f"give weights of {', '.join(BACKBONE_NAMES)} at full width",
    )


def _shapes(backbone: Backbone) -> dict[str, tuple[int, ...]]:
    """Keys as the file would have them, torchvision's in torchvision's words."""
    shapes = {key: tuple(value.shape) for key, value in backbone.state_dict().items()}
    if isinstance(backbone, TorchvisionBackbone):
        return {backbone.torchvision_key(key): shape for key, shape in shapes.items()}
    return shapes


def _filled(name: str, trunk: State) -> Backbone:
    backbone = build_backbone(name)
    if isinstance(backbone, TorchvisionBackbone):
        backbone.load_torchvision(trunk)
    else:
        backbone.load_state_dict({**{k: v for k, v in backbone.state_dict().items() if k not in trunk}, **trunk})
    return backbone


def _with_heads(path: Path, name: str, trunk: Backbone, heads: State) -> OutsideModel:
    classifier = heads.get("fc.weight")
    projector = heads.get("projector.mlp.2.weight")
    features = trunk.feature_dim
    if classifier is not None and classifier.shape[1] != TUPLE_VIEWS * features:
        raise InputError(
            f"{path}: fc takes {classifier.shape[1]} numbers, a pretext classifier over {TUPLE_VIEWS} clips of {name} "
            f"takes {TUPLE_VIEWS * features}",
            remedy="give a checkpoint of self-supervised training, not of fine-tuning, or remove fc from it",
        )
    model = PclModel(
        trunk,
        pretext_classes=5 if classifier is None else classifier.shape[0],
        embedding_dim=128 if projector is None else projector.shape[0],
    )
    fresh = {key: value for key, value in model.state_dict().items() if key.startswith(_HEADS)}
    part_of = {"fc": classifier is not None, "projector": projector is not None}
    wanted = {key for key in fresh if part_of[key.split(".")[0]]}
    if wanted != set(heads) or any(fresh[key].shape != heads[key].shape for key in wanted):
        raise InputError(
            f"{path}: heads of {name} are incomplete or of other shapes; "
            f"missing: {_some(sorted(wanted - set(heads)))}; unexpected: {_some(sorted(set(heads) - wanted))}",
            remedy="give a checkpoint whose heads are fc and projector.mlp.0 and .2",
        )
    model.load_state_dict({**fresh, **heads}, strict=False)
    return OutsideModel(model, name, has_pretext=classifier is not None, has_projector=projector is not None)


def _some(keys: list[str]) -> str:
    more = f" and {len(keys) - _NAMED_AT_MOST} more" if len(keys) > _NAMED_AT_MOST else ""
    return (", ".join(keys[:_NAMED_AT_MOST]) or "none") + more
