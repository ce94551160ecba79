"""The backbones by name: the published ones, torchvision's, and those that users register."""

import difflib
from collections.abc import Callable
from functools import partial

import torch
from torch import nn

from pclkd.sharding.common.errors import InputError
from pclkd.training.models.base import Backbone
from pclkd.training.models.c3d import C3D
from pclkd.training.models.resnet import R3D, R2Plus1D
from pclkd.training.models.torchvision import TORCHVISION_NAMES, TorchvisionBackbone

__all__ = ["BACKBONE_NAMES", "Backbone", "backbone_names", "build_backbone", "register_backbone"]


_BUILDERS: dict[str, Callable[[float], Backbone]] = {
    "c3d": C3D,
    "r3d": R3D,
    "r2plus1d": R2Plus1D,
    "r3d18": partial(R3D, depths=(2, 2, 2, 2)),
    "r2plus1d18": partial(R2Plus1D, depths=(2, 2, 2, 2)),
    **{name: partial(TorchvisionBackbone, name) for name in TORCHVISION_NAMES},
}

BACKBONE_NAMES = tuple(_BUILDERS)
"""The names that need no registration."""


def backbone_names(width: float = 1.0) -> tuple[str, ...]:
    """All names that `build_backbone` knows at a width, registered ones included."""
    scaled = [name for name in BACKBONE_NAMES if name not in TORCHVISION_NAMES]
    return tuple(_BUILDERS) if width == 1 else tuple(scaled)


def build_backbone(name: str, width: float = 1.0) -> Backbone:
    """A backbone with fresh weights, drawn from torch's generator.

    Args:
        name: one of `backbone_names()`.
        width: factor on every channel count, rounded to multiples of 8; 1.0 is the published network. torchvision's
            and registered networks have width 1 alone.

    Raises:
        InputError: unknown name, or a width that is not a positive number or not to be had.
    """
    if name not in _BUILDERS:
        nearest = difflib.get_close_matches(name.lower(), _BUILDERS, n=1, cutoff=0.0)[0]
        raise InputError(
            f"unknown backbone {name!r}; known are {', '.join(_BUILDERS)}",
            remedy=f"did you mean {nearest!r}? A network of your own: --import the module that registers it",
        )
    return _BUILDERS[name](width)


class _Registered(Backbone):
    """A user's network; maps that are not pooled yet are averaged."""

    def __init__(self, name: str, network: nn.Module, feature_dim: int, least_frames: int) -> None:
        super().__init__()
        self.name, self.network = name, network
        self.feature_dim, self.grid_dim, self.least_frames = feature_dim, feature_dim, least_frames

    def look(self, clips: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
        """As in Backbone; maps [N, F, t, h, w] are its local features."""
        said = self.network(clips)
        if said.ndim != 5:
            raise InputError(
                f"backbone {self.name!r} gave {list(said.shape)}, and kd.grid_weight asks for local features",
                remedy="let it give maps [N, F, t, h, w], or --set kd.grid_weight=0",
            )
        return self._features(clips, said), said

    def forward(self, clips: torch.Tensor) -> torch.Tensor:
        return self._features(clips, self.network(clips))

    def _features(self, clips: torch.Tensor, features: torch.Tensor) -> torch.Tensor:
        if features.ndim > 2:
            features = features.flatten(2).mean(2)
        if features.ndim != 2 or features.shape[1] != self.feature_dim:
            raise InputError(
                f"backbone {self.name!r} gave features {list(features.shape)} for clips {list(clips.shape)}",
                remedy=f"let it give [N, {self.feature_dim}] or [N, {self.feature_dim}, ...], as it was registered",
            )
        return features


def register_backbone(name: str, build: Callable[[], nn.Module], *, feature_dim: int, least_frames: int = 1) -> None:
    """Make any network usable by name: as student, as teacher, in every command.

    A checkpoint keeps the name alone, so whatever reads it must have registered the network as well.

    Args:
        name: what `--backbone` and the settings call it.
        build: makes the network with fresh weights; it takes normalised clips [N, 3, T, H, W] and gives features
            [N, F] or maps [N, F, ...], which are averaged.
        feature_dim: F.
        least_frames: the shortest clip it takes.

    Raises:
        InputError: the name is taken.
    """
    if name in _BUILDERS:
        raise InputError(f"a backbone named {name!r} exists already", remedy="register it by another name")

    def build_registered(width: float) -> Backbone:
        if width != 1:
            raise InputError(f"backbone width {width} of {name!r}", remedy="a registered network has width 1 alone")
        return _Registered(name, build(), feature_dim, least_frames)

    _BUILDERS[name] = build_registered
