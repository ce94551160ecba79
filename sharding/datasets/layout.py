"""The layouts of data sets by name: what tells each, and who reads it.

A layout is one file, which ends in its `LAYOUT` (or several), and one line in the table below. The table names the
files without loading them, so that the command line lists the layouts at once.
"""

import difflib
import importlib
import re
from collections.abc import Callable
from dataclasses import dataclass

from pclkd.sharding.common.errors import InputError
from pclkd.sharding.datasets.dataset import Dataset

__all__ = ["Layout", "describe_layouts", "find_layout", "layout_names", "register_layout"]


@dataclass(frozen=True)
class Layout:
    r"""All that is known of a layout.

    Attributes:
        name: what `--dataset` and the manifest call it.
        reader: makes the `Dataset`. It is called with path or URL of the folder of videos, then with that of the
            lists (if `lists`), then with the test share (unless `own_splits`).
        expects: what LISTS must be, or what stands in their place; it ends messages such as "give ...".
        lists: it has lists; else it is read without `--splits`.
        list_name: a file of such a name, whole, among the lists tells this layout; None: no name tells it.
        columns: a table with these columns tells it (the most columns win); empty: no table tells it.
        one_file: the reader takes one list, not the folder of lists.
        video_name: what the videos are named like (without suffix), so that they are not packed without their lists.
        own_splits: the lists tell every part, so a test share is refused.
    """

    name: str
    reader: Callable[..., Dataset]
    expects: str
    lists: bool = True
    list_name: re.Pattern[str] | None = None
    columns: tuple[str, ...] = ()
    one_file: bool = False
    video_name: re.Pattern[str] | None = None
    own_splits: bool = False


_LAYOUTS: dict[str, Layout | str] = {
    "ucf101": "pclkd.sharding.datasets.ucf101",
    "hmdb51": "pclkd.sharding.datasets.hmdb51",
    "kinetics": "pclkd.sharding.datasets.kinetics",
    "something-v1": "pclkd.sharding.datasets.twentybn:SOMETHING_V1",
    "something-v2": "pclkd.sharding.datasets.twentybn:SOMETHING_V2",
    "jester": "pclkd.sharding.datasets.twentybn:JESTER",
    "diving48": "pclkd.sharding.datasets.diving48",
    "activitynet": "pclkd.sharding.datasets.activitynet",
    "folder": "pclkd.sharding.datasets.folder",
    "loose": "pclkd.sharding.datasets.loose",
    "csv": "pclkd.sharding.datasets.table",
}


def layout_names() -> tuple[str, ...]:
    """All names that `find_layout` knows, registered ones included; loads none of them."""
    return tuple(_LAYOUTS)


def find_layout(name: str) -> Layout:
    """Return the layout of a name, and load its file if need be.

    Raises:
        InputError: unknown name.
    """
    if name not in _LAYOUTS:
        nearest = difflib.get_close_matches(name.lower(), _LAYOUTS, n=1, cutoff=0.0)[0]
        raise InputError(
            f"unknown layout {name!r}; known are {', '.join(_LAYOUTS)}",
            remedy=f"did you mean {nearest!r}? A layout of your own: --import the module that registers it",
        )
    row = _LAYOUTS[name]
    if isinstance(row, str):
        module, _, variable = row.partition(":")
        row = _LAYOUTS[name] = getattr(importlib.import_module(module), variable or "LAYOUT")
    return row


def describe_layouts() -> str:
    """Return a table of all layouts and what their lists must be, for people."""
    rows = [("layout", "LISTS (--splits)"), *((row.name, row.expects) for row in map(find_layout, _LAYOUTS))]
    width = max(len(name) for name, _ in rows)
    return "\n".join(f"{name:<{width}}  {expects}" for name, expects in rows)


def register_layout(layout: Layout) -> None:
    """Make a data set of your own readable by name, and told by its lists if it says how.

    Raises:
        InputError: the name is taken.
    """
    if layout.name in ("auto", *_LAYOUTS):
        raise InputError(f"a layout named {layout.name!r} exists already", remedy="register it by another name")
    _LAYOUTS[layout.name] = layout
