"""What the files of a run folder may say: the types and sizes that a run writes, and no others.

A folder comes from anywhere, and what reads it draws, sums and names files by it.
"""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pclkd.sharding.common.errors import InputError, visible
from pclkd.sharding.common.files import no_device, parse_json

__all__ = ["check_evaluation", "check_line", "check_settings", "read_object"]

_LARGEST_FIGURE = 1e60
"""Beyond any loss in 32-bit numbers; charts and squares of it are finite."""
_MOST_EPOCHS = 2**31
_LONGEST_NAME = 200
_PLACES = ("kind", "epoch", "step")
_GROUPS = ("backbone", "tuples", "loader")
_RESTORE = "restore the file or remove the run folder"


def read_object(path: Path) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        InputError: no file, no JSON, or no object.
    """
    try:
        content = parse_json(no_device(path).read_bytes())
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read as JSON ({error})", remedy=_RESTORE) from None
    if not isinstance(content, dict):
        raise InputError(f"{path} is not a JSON object", remedy=_RESTORE)
    return content


def check_line(place: str, record: Any) -> None:
    """Check a line of metrics.jsonl: kind, epoch, step, and figures that are finite numbers, or null.

    Raises:
        InputError: anything else, at `place`.
    """
    if not isinstance(record, dict) or record.get("kind") not in ("epoch", "step"):
        raise InputError(f"{place}: {_shown(record)} is no line of a run", remedy=_RESTORE)
    for name in ("epoch", "step"):
        value = record.get(name)
        if type(value) is not int or not 0 <= value <= _MOST_EPOCHS:
            raise InputError(f"{place}: {name} is {_shown(value)}", remedy=_RESTORE)
    for name, value in record.items():
        told = isinstance(value, str) and not name.startswith(("val/", "train/"))
        if name not in _PLACES and value is not None and not told and not _is_figure(value):
            raise InputError(f"{place}: {name} is {_shown(value)}", remedy=_RESTORE)


def check_evaluation(path: Path, protocol: str, content: Mapping[str, Any]) -> None:
    """Check what a protocol found: percentages and epochs that are numbers.

    Raises:
        InputError: one is none, or missing.
    """
    wanted = ("finetune_epochs", "finetune_top1_pct") if protocol == "finetune" else ()
    for name in (*wanted, *content):
        value = content.get(name)
        figure = name.endswith(("_pct", "_pct_se", "epochs"))
        if name == "by_class_pct" and isinstance(value, dict) and all(map(_is_figure, value.values())):
            continue
        if figure and not _is_figure(value) and (name in wanted or value is not None):
            raise InputError(f"{path}: {name} is {_shown(value)}", remedy="measure again: train-kd evaluate")


def check_settings(path: Path, settings: Mapping[str, Any], controls: tuple[str, ...]) -> None:
    """Check of the settings what a report reads.

    Raises:
        InputError: of another type, or names of more than 200 letters.
    """
    for group in _GROUPS:
        if not isinstance(settings.get(group, {}), dict):
            raise _wrong(path, group, settings[group])
    backbone = settings.get("backbone", {})
    if "name" in backbone and not _is_name(backbone["name"]):
        raise _wrong(path, "backbone.name", backbone["name"])
    width = backbone.get("width", 1.0)
    if not _is_figure(width) or not 0 < width <= 64:
        raise _wrong(path, "backbone.width", width)
    if "control" in settings and (settings["control"] not in controls or "name" not in backbone):
        raise _wrong(path, "control", settings["control"])
    teachers = settings.get("teachers")
    named = [settings.get("teacher"), *(teachers if isinstance(teachers, list) else [teachers])]
    for teacher in named:
        if teacher is not None and not isinstance(teacher, str):
            raise _wrong(path, "teacher", teacher)
    terms = settings.get("terms", {})
    if not isinstance(terms, dict):
        raise _wrong(path, "terms", terms)
    for name, told in terms.items():
        if not (isinstance(told, dict) and _is_name(told.get("title")) and _is_name(told.get("unit"))):
            raise _wrong(path, f"terms.{name}", told)


def _is_figure(value: Any) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return -_LARGEST_FIGURE <= value <= _LARGEST_FIGURE and not (isinstance(value, float) and math.isnan(value))


def _is_name(value: Any) -> bool:
    return isinstance(value, str) and len(value) <= _LONGEST_NAME and value.isprintable()


def _wrong(path: Path, name: str, value: Any) -> InputError:
    return InputError(f"{path}: {name} is {_shown(value)}", remedy=_RESTORE)


def _shown(value: Any) -> str:
    return visible(repr(value), 80)
