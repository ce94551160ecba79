"""The backbones by name."""

import difflib
from collections.abc import Callable
from functools import partial

from pclkd.sharding.errors import InputError
from pclkd.training.architecture import Backbone
from pclkd.training.c3d import C3D
from pclkd.training.r2plus1d import R2Plus1D
from pclkd.training.r3d import R3D

__all__ = ["BACKBONE_NAMES", "Backbone", "build_backbone"]

_BUILDERS: dict[str, Callable[[float], Backbone]] = {
    "c3d": C3D,
    "r3d": R3D,
    "r2plus1d": R2Plus1D,
    "r3d18": partial(R3D, depths=(2, 2, 2, 2)),
    "r2plus1d18": partial(R2Plus1D, depths=(2, 2, 2, 2)),
}

BACKBONE_NAMES = tuple(_BUILDERS)


def build_backbone(name: str, width: float = 1.0) -> Backbone:
    """A backbone with fresh weights, drawn from torch's generator.

    Args:
        name: one of BACKBONE_NAMES.
        width: factor on every channel count, rounded to multiples of 8; 1.0 is the published network.

    Raises:
        InputError: unknown name, or a width that is not a positive number.
    """
    if name not in _BUILDERS:
        nearest = difflib.get_close_matches(name.lower(), BACKBONE_NAMES, n=1, cutoff=0.0)[0]
        raise InputError(
            f"unknown backbone {name!r}; known are {', '.join(BACKBONE_NAMES)}", remedy=f"did you mean {nearest!r}?"
        )
    return _BUILDERS[name](width)
