"""A data-set layout of your own: a JSON file a part, which gives each video its class.

    shard-ucf101 --import examples/own_dataset_layout.py pack videos/ shards/ --splits lists/

`lists/moves_train.json` and `lists/moves_test.json` hold {"0001.mp4": "jump", ...}; `videos/` holds the files.
Auto-detection knows the lists by their names.
"""

import json
import re
from pathlib import Path
from typing import Literal

from pclkd.sharding import Dataset, InputError, Layout, Video, register_layout

__all__ = ["read_moves"]

_LIST = re.compile(r"moves_(train|test)\.json")


def read_moves(videos: str | Path, lists: str | Path) -> Dataset:
    """The videos that the lists name; labels follow the alphabet.

    Raises:
        InputError: no list is there, or none of the videos.
    """
    told = {
        match[1]: json.loads(file.read_text())
        for file in sorted(Path(lists).iterdir())
        if (match := _LIST.fullmatch(file.name))
    }
    classes = sorted({label for rows in told.values() for label in rows.values()})
    found: list[Video] = []
    missing: list[str] = []
    for word, rows in told.items():
        part: Literal["train", "test"] = "train" if word == "train" else "test"
        for name, label in rows.items():
            path = Path(videos) / name
            if path.is_file():
                found.append(Video(str(path), name, path.stem, classes.index(label), -1, {1: part}))
            else:
                missing.append(name)
    if not found:
        raise InputError(f"none of the videos that {lists} names is in {videos}", remedy="give the folder of videos")
    in_order = tuple(sorted(found, key=lambda video: video.relative))
    return Dataset("moves", Path(videos).name, tuple(classes), (1,), in_order, tuple(missing), ())


register_layout(Layout("moves", read_moves, "the folder of moves_train.json", list_name=_LIST, own_splits=True))
