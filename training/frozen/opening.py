"""A frozen network by its name: which family it is of, and what its loader has to deliver."""

from collections.abc import Callable, Mapping
from typing import Any

from pclkd.sharding.common.errors import InputError
from pclkd.training.frozen.families import from_factory, from_timm, from_torchvision
from pclkd.training.frozen.hugging_face import from_hugging_face
from pclkd.training.frozen.network import FrozenNetwork

__all__ = ["FAMILIES", "family_of", "open_network"]

FAMILIES: dict[str, Callable[[str, str, Mapping[str, Any]], FrozenNetwork]] = {
    "timm": from_timm,
    "hf": from_hugging_face,
    "torchvision": from_torchvision,
    "module": from_factory,
}
"""By what stands before the colon of a teacher's name."""


def family_of(name: str) -> str:
    """The family that a teacher's name tells, "" for a path."""
    family, colon, _ = name.partition(":")
    return family if colon and family in FAMILIES else ""


def open_network(name: str, changes: Mapping[str, Any] | None = None) -> FrozenNetwork:
    """The network of that name, with its weights, on the CPU.

    Args:
        name: `timm:NAME`, `hf:REPOSITORY or FOLDER`, `torchvision:NAME` or `module:path.to.module:function`; behind the
            names of timm and torchvision `@FILE` for weights from a file.
        changes: of the `TeacherSpec` that is found by family.

    Raises:
        InputError: no such family or network, what it needs is not installed, or its weights are not there.
    """
    family = family_of(name)
    if not family:
        raise InputError(
            f"{name}: no known family of networks", remedy=f"write one of {', '.join(FAMILIES)} before a :"
        )
    return FAMILIES[family](name, name.partition(":")[2], changes or {})
