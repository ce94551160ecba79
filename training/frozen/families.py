"""Frozen networks of timm, of torchvision, and of a user's function; those of transformers are in `hugging_face`.

Sources: timm (Wightman, github.com/huggingface/pytorch-image-models); torchvision.models and torchvision.models.video.
"""

import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from pclkd.sharding.common.errors import InputError
from pclkd.sharding.common.settings import nearest
from pclkd.training.frozen.network import Answer, FrozenNetwork
from pclkd.training.frozen.spec import TeacherSpec, overridden
from pclkd.training.frozen.weights import cached_by_torch, library, loaded, not_there, offline

__all__ = ["from_factory", "from_timm", "from_torchvision"]

_HEADS = ("fc", "head", "heads", "classifier")
_VIDEO_FRAMES = {"swin3d": 32, "mvit": 16, "s3d": 16}  # of a clip that they were trained with; else 16


def from_timm(name: str, wanted: str, changes: Mapping[str, Any]) -> FrozenNetwork:
    """An image network of timm.

    Args:
        name: of the teacher, for messages.
        wanted: timm's name, with `@FILE` behind it for other weights than those of its cache.
        changes: of the spec that its configuration tells.

    Raises:
        InputError: timm or the weights are not there, or it does not know the name.
    """
    timm = library("timm", name, "timm")
    model, _, file = wanted.partition("@")
    known = timm.list_models(pretrained=False)
    if ":" not in model and model.partition(".")[0] not in known:
        raise InputError(
            f"the teacher {name}: timm has no {model}",
            remedy=f"did you mean {nearest(model, known)!r}? Or --import the module that registers it",
        )
    more: dict[str, Any] = {"pretrained_cfg_overlay": {"file": file}} if file else {}
    if file and not Path(file).is_file():
        raise InputError(f"the teacher {name}: no file {file}", remedy="give a file of weights behind the @")
    tag = timm.models.get_pretrained_cfg(model) if ":" not in model else None
    if tag is not None and not file and not tag.hf_hub_id and tag.url:
        more = {"pretrained_cfg_overlay": {"file": str(cached_by_torch(name, tag.url))}}
    if tag is not None and tag.fixed_input_size and "size" in changes:
        more["img_size"] = changes["size"]
    try:
        with offline():
            network = timm.create_model(model, pretrained=True, num_classes=0, **more)
    except (OSError, RuntimeError, ValueError) as error:
        if isinstance(error, RuntimeError) and "hub" not in str(error).lower():
            raise InputError(
                f"the teacher {name}: {str(error).splitlines()[0]}", remedy="give weights of that very network"
            ) from None
        cache = importlib.import_module("huggingface_hub").constants.HF_HUB_CACHE
        fetch = f"python -c \"import timm; timm.create_model('{model}', pretrained=True)\""
        raise not_there(name, cache, fetch) from None
    cfg = network.pretrained_cfg
    size = int(cfg["input_size"][-1])
    spec = TeacherSpec(frames=1, size=size, images=True, mean=tuple(cfg["mean"]), std=tuple(cfg["std"]))
    spec = overridden(spec, {"prefix": int(getattr(network, "num_prefix_tokens", 0)), **changes}, name)
    patches = getattr(network, "patch_embed", None)
    if "grid" not in changes and (patch := getattr(patches, "patch_size", None)):
        spec = overridden(spec, {"grid": (1, spec.size // patch[0], spec.size // patch[1])}, name)
    last = getattr(network, "output_fmt", "NCHW") == "NHWC"

    def ask(network: Any, pictures: torch.Tensor) -> Answer:
        maps = network.forward_features(pictures)
        pooled = network.forward_head(maps, pre_logits=True)
        return pooled, maps.permute(0, 3, 1, 2) if last and maps.ndim == 4 else maps

    return FrozenNetwork(name, network, ask, spec)


def from_torchvision(name: str, wanted: str, changes: Mapping[str, Any]) -> FrozenNetwork:
    """A network of torchvision, for pictures or for clips.

    Args:
        name: of the teacher, for messages.
        wanted: torchvision's name, with `@FILE` behind it for other weights than those of its cache.
        changes: of the spec that its family has.

    Raises:
        InputError: the weights are not there or fit another network, or torchvision does not know the name.
    """
    from torchvision import models

    model, _, file = wanted.partition("@")
    images, videos = models.list_models(models), models.list_models(models.video)
    if model not in (*images, *videos):
        raise InputError(
            f"the teacher {name}: torchvision has no {model}",
            remedy=f"did you mean {nearest(model, [*images, *videos])!r}?",
        )
    weights: Any = models.get_model_weights(model).DEFAULT
    preset = weights.transforms()
    size = preset.crop_size[0] if isinstance(preset.crop_size, list | tuple) else int(preset.crop_size)
    frames = next((count for family, count in _VIDEO_FRAMES.items() if model.startswith(family)), 16)
    spec = TeacherSpec(
        frames=frames if model in videos else 1,
        size=size,
        images=model in images,
        mean=tuple(preset.mean),
        std=tuple(preset.std),
        prefix=1 if model.startswith("vit") else 0,
    )
    spec = overridden(spec, changes, name)
    state = loaded(Path(file) if file else cached_by_torch(name, weights.url), name)
    network = models.get_model(model, weights=None, **_sizes(model, spec, state))
    try:
        network.load_state_dict(state)
    except RuntimeError as error:
        details = "; ".join(line.strip() for line in str(error).splitlines()[1:3])
        raise InputError(
            f"the teacher {name}: these are no weights of {model} ({details})", remedy="give weights of that network"
        ) from None
    if model.startswith("vit") and spec.grid is None:
        cells = spec.size // int(network.patch_size)
        spec = overridden(spec, {"grid": (1, cells, cells)}, name)
    return FrozenNetwork(name, _Headless(network, model), _ask_plainly, spec)


def from_factory(name: str, wanted: str, changes: Mapping[str, Any]) -> FrozenNetwork:
    """A network that a function of the user's makes.

    Args:
        name: of the teacher, for messages.
        wanted: `path.to.module:function`; it gives an `nn.Module` whose `teacher_spec` (a mapping, if there is one)
            tells fields of the spec.
        changes: of that spec.

    Raises:
        InputError: there is no such function, it fails, or it gives something else.
    """
    place, _, function = wanted.partition(":")
    try:
        network = getattr(importlib.import_module(place), function)()
    except Exception as error:  # whatever somebody's module does
        raise InputError(
            f"the teacher {name} cannot be made: {type(error).__name__}: {error}",
            remedy="write it as module:path.to.module:function, of a module that Python finds (PYTHONPATH)",
        ) from None
    if not isinstance(network, nn.Module):
        raise InputError(
            f"the teacher {name} is a {type(network).__name__}", remedy="let the function give an nn.Module"
        )
    spec = overridden(TeacherSpec(), {**getattr(network, "teacher_spec", {}), **changes}, name)
    return FrozenNetwork(name, network, _ask_plainly, spec)


def _ask_plainly(network: nn.Module, pixels: torch.Tensor) -> Answer:
    """Of a network that gives one tensor, or features and what they were made of."""
    said = network(pixels)
    return said if isinstance(said, tuple) else (None, said)


class _Headless(nn.Module):
    """One of torchvision's networks without its last layer: features, and the maps or tokens before they are pooled."""

    def __init__(self, network: nn.Module, model: str) -> None:
        super().__init__()
        name = next(name for name in _HEADS if hasattr(network, name))
        head = getattr(network, name)
        if model == "s3d":  # its pooling window fits 224 x 224 clips alone, and the mean over what is left is the same
            network = network.get_submodule("features")
        elif isinstance(head, nn.Sequential):
            head[-1] = nn.Identity()
        else:
            setattr(network, name, nn.Identity())
        self.network, self._maps = network, torch.empty(0)
        watched = getattr(network, "avgpool", None) or getattr(network, "encoder", None)
        if isinstance(watched, nn.Module):
            before = hasattr(network, "avgpool")
            watched.register_forward_hook(lambda _, seen, said: self._keep(seen[0] if before else said))

    def _keep(self, maps: torch.Tensor) -> None:
        self._maps = maps

    def forward(self, pixels: torch.Tensor) -> tuple[torch.Tensor | None, torch.Tensor]:
        said = self.network(pixels)
        if said.ndim == 5:
            return None, said
        maps, self._maps = self._maps, torch.empty(0)
        return said, maps if maps.ndim > 2 else said


def _sizes(model: str, spec: TeacherSpec, state: Mapping[str, torch.Tensor]) -> dict[str, Any]:
    """What torchvision's builders have to know before weights fit: classes, and the size of a ViT's pictures."""
    heads = [value for key, value in state.items() if key.split(".")[0] in _HEADS and value.ndim >= 2]
    found: dict[str, Any] = {"num_classes": len(heads[-1])} if heads else {}
    if model.startswith("vit"):
        found |= {"image_size": spec.size}
    return found
