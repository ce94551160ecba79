"""A data-set layout of your own: Diving48's lists, one JSON file a part.

    shard-ucf101 --import examples/own_dataset_layout.py pack rgb/ shards/ --splits lists/

`lists/Diving48_V2_train.json` and `..._test.json` hold rows such as {"vid_name": "-dTW9mv5sXg_00000", "label": 12};
`rgb/` holds `<vid_name>.mp4`. Auto-detection knows the lists by their names.
"""

import json
import re
from pathlib import Path
from typing import Literal

from pclkd.sharding import Dataset, InputError, Layout, Video, register_layout

__all__ = ["read_diving48"]

_LIST = re.compile(r"Diving48_V\d_(train|test)\.json")


def read_diving48(videos: str | Path, lists: str | Path) -> Dataset:
    """The videos that the lists name; label n is the class "dive n".

    Raises:
        InputError: no list is there, or none of the videos.
    """
    found: list[Video] = []
    missing: list[str] = []
    classes = 0
    for file in sorted(Path(lists).iterdir()):
        match = _LIST.fullmatch(file.name)
        if match is None:
            continue
        for row in json.loads(file.read_text()):
            name, classes = f"{row['vid_name']}.mp4", max(classes, row["label"] + 1)
            path = Path(videos) / name
            if not path.is_file():
                missing.append(name)
                continue
            part: Literal["train", "test"] = "train" if match[1] == "train" else "test"
            found.append(Video(str(path), name, row["vid_name"], row["label"], -1, {1: part}))
    if not found:
        raise InputError(
            f"none of the videos that {lists} names is in {videos}", remedy="give the folder of .mp4 files"
        )
    names = tuple(f"dive {label}" for label in range(classes))
    in_order = tuple(sorted(found, key=lambda video: video.relative))
    return Dataset("diving48", Path(videos).name, names, (1,), in_order, tuple(missing), ())


register_layout(Layout("diving48", read_diving48, "the folder of Diving48_V2_*.json", list_name=_LIST, own_splits=True))
