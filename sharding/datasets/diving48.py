"""Diving48: clips `rgb/<vid_name>.mp4`, lists `Diving48_V2_train.json` and `Diving48_V2_test.json`.

A row is {"vid_name": "-mmq0PT-u8k_00155", "label": 0, "start_frame": 0, "end_frame": 48}; the clips are cut already.
`Diving48_vocab.json` names the classes: takeoff, somersaults, twists and position of each.
"""

import re
from pathlib import Path
from typing import Any

from pclkd.sharding.common import storage
from pclkd.sharding.common.errors import InputError
from pclkd.sharding.datasets.dataset import Dataset
from pclkd.sharding.datasets.layout import Layout
from pclkd.sharding.datasets.list_files import list_names, read_json
from pclkd.sharding.datasets.named_clips import NamedClip, add_clip, match_names
from pclkd.sharding.datasets.parts import part_word

__all__ = ["LAYOUT", "read_diving48"]

_LIST = re.compile(r"Diving48(?:_V\d)?_(train|test)\.json")
_VOCABULARY = "Diving48_vocab.json"
_MOST_CLASSES = 10_000
_GET_THEM = f"use the folder that holds Diving48_V2_train.json, Diving48_V2_test.json and {_VOCABULARY}"


def read_diving48(root: str | Path, splits: str | Path) -> Dataset:
    """Read the lists in the folder `splits` and match them to the clips below `root`; both may be URLs.

    The group is told by the YouTube id. Without the vocabulary, label n is the class "dive n".

    Raises:
        InputError: anything wrong with the folder or the lists.
    """
    names = list_names(splits, _GET_THEM)
    rows = [
        (f"{name}: row {number}", match[1], row)
        for name in names
        if (match := _LIST.fullmatch(name))
        for number, row in enumerate(_listed(storage.join(splits, name)), start=1)
    ]
    words = _listed(storage.join(splits, _VOCABULARY)) if _VOCABULARY in names else []
    classes = [word if isinstance(word, str) else " ".join(map(str, word)) for word in words]
    clips: dict[str, NamedClip] = {}
    for place, part, row in rows:
        try:
            name, label = str(row["vid_name"]), int(row["label"])
        except (TypeError, KeyError, ValueError, OverflowError):
            raise InputError(f'{place} is not {{"vid_name": ..., "label": ...}}', remedy=_GET_THEM) from None
        if not 0 <= label < (len(classes) or _MOST_CLASSES):
            known = f"{_VOCABULARY} has {len(classes)}" if classes else f"there are less than {_MOST_CLASSES}"
            raise InputError(f"{place}: label {label}, {known}", remedy=_GET_THEM)
        told = classes[label] if classes else f"dive {label}"
        add_clip(clips, name, NamedClip(told, part_word(part), place, f"youtube {name.rpartition('_')[0]}"))
    if not clips:
        raise InputError(f"{splits} holds no list of Diving48", remedy=_GET_THEM)
    if not classes:
        classes = [f"dive {label}" for label in range(1 + max(int(clip.label.split()[1]) for clip in clips.values()))]
    return match_names("diving48", root, clips, classes=classes)


def _listed(url: str) -> list[Any]:
    rows = read_json(url, _GET_THEM)
    if not isinstance(rows, list) or not all(isinstance(row, str | list | dict) for row in rows):
        raise InputError(f"{url} is no list of clips or of words", remedy=_GET_THEM)
    return rows


LAYOUT = Layout(
    "diving48",
    read_diving48,
    "the folder of Diving48_V2_train.json, Diving48_V2_test.json and Diving48_vocab.json",
    list_name=_LIST,
    own_splits=True,
)
