"""The base of all settings: frozen, validated, documented field by field; and how some of them are changed."""

import difflib
from collections.abc import Iterable, Mapping
from typing import Any, Self, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from pclkd.sharding.common.errors import InputError

__all__ = ["Settings", "change", "first_fault", "nearest"]

S = TypeVar("S", bound="Settings")


class Settings(BaseModel):
    """Settings stand beside the class that owns them; the docstring under a field is its help text.

    Unknown fields are refused, values are validated, instances do not change.
    """

    model_config = ConfigDict(
        frozen=True, extra="forbid", use_attribute_docstrings=True, validate_default=True, allow_inf_nan=False
    )

    @classmethod
    def given(cls, **values: Any) -> Self:
        """Settings without groups, from the options of a command.

        Raises:
            InputError: a value that is not allowed; its name, the value, and what the setting means are told.
        """
        try:
            return cls(**values)
        except ValidationError as error:
            name, value, fault = first_fault(error)
            meaning = " ".join((cls.model_fields[name.partition(".")[0]].description or name).split())
            raise InputError(f"{name} = {value}: {fault}", remedy=f"it means: {meaning}") from None


def change(settings: S, changes: Mapping[str, Any]) -> S:
    """Settings with the values at some paths, as `optimizer.lr`, replaced; all is validated anew, together.

    Raises:
        ValidationError: a value that is not allowed; `first_fault` tells which.
    """
    # dict() and not model_dump(): what is not changed stays the object that it is, a recipe is not taken apart.
    values: dict[str, Any] = dict(settings)
    # Whole groups first: a change inside one holds for the group that is given beside it.
    for path in sorted(changes, key=lambda path: path.count(".")):
        *groups, leaf = path.split(".")
        place = values
        for group in groups:
            inner = place[group]
            if not isinstance(inner, BaseModel | Mapping):
                break  # no settings at all: validation says so
            place[group] = place = dict(inner)
        else:
            place[leaf] = changes[path]
    return type(settings).model_validate(values)


def first_fault(error: ValidationError) -> tuple[str, Any, str]:
    """The path, the value, and what is wrong with it."""
    first = error.errors()[0]
    fault = first["msg"].removeprefix("Value error, ")
    if first["type"] == "tuple_type":
        fault = "needs several values in brackets, such as [0.5, 0.75]"
    return ".".join(str(part) for part in first["loc"]), first["input"], fault[:1].lower() + fault[1:]


def nearest(name: str, known: Iterable[str]) -> str:
    """The known name, of one or more, that is most like `name`; of `optimizer.lr` the last part may be like it too."""
    leaves: dict[str, str] = {}
    for path in known:
        leaves.setdefault(path.rpartition(".")[2], path)
        leaves[path] = path
    return leaves[difflib.get_close_matches(name, leaves, n=1, cutoff=0)[0]]
