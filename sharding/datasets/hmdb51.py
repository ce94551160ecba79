"""HMDB51: class folders, and the official lists `<class>_test_split<1-3>.txt`.

A line is `video.avi 0`, `1` or `2`: in no part, train, test. The folder of the lists names the classes.
"""

import re
from collections.abc import Iterator
from pathlib import Path

from pclkd.sharding.common import storage
from pclkd.sharding.common.errors import InputError
from pclkd.sharding.datasets.class_folders import match_lists
from pclkd.sharding.datasets.dataset import Dataset, Part
from pclkd.sharding.datasets.layout import Layout
from pclkd.sharding.datasets.list_files import list_names, numbered_lines
from pclkd.sharding.datasets.names import group_number

__all__ = ["LAYOUT", "read_hmdb51"]

_LIST_NAME = re.compile(r"(.+)_test_split(\d{1,9})\.txt", re.ASCII)
_GET_THEM = "use the folder that holds the lists such as brush_hair_test_split1.txt (testTrainMulti_7030_splits)"
# What follows source and action in a file name: body part, camera, people, viewpoint, quality, number.
_ATTRIBUTES = re.compile(r"_[a-z]_[a-z]{2}_np\d_[a-z]{2}_[a-z]{3}_\d+$", re.IGNORECASE)
_PARTS: dict[str, Part] = {"1": "train", "2": "test"}
_NO_PART = "0"


def read_hmdb51(root: str | Path, splits: str | Path) -> Dataset:
    """Read the lists in the folder `splits` and match them to the class folders of `root`; both may be URLs.

    Labels follow the alphabet. The group is told by what stands before the action in the file name: clips of one film
    share it (`April_09` in `April_09_brush_hair_u_nm_np1_ba_goo_0.avi`).

    Raises:
        InputError: anything wrong with the folder or the lists.
    """
    files = _list_files(splits)
    classes = tuple(sorted({name for name, _ in files}))
    numbers = tuple(sorted({number for _, number in files}))
    for name in classes:
        for number in numbers:
            if (name, number) not in files:
                place = storage.join(splits, f"{name}_test_split{number}.txt")
                raise InputError(f"class {name!r} has no list {place}", remedy=_GET_THEM)
    listed: dict[str, dict[int, Part]] = {}
    for (name, number), url in sorted(files.items()):
        for video, code in _lines(url):
            parts = listed.setdefault(f"{name}/{video}", {})
            if code != _NO_PART:
                parts[number] = _PARTS[code]
    return match_lists("hmdb51", root, classes, numbers, listed, _group)


def _list_files(folder: str | Path) -> dict[tuple[str, int], str]:
    """Return the list of each (class, split)."""
    files = {}
    for name in list_names(folder, _GET_THEM):
        if match := _LIST_NAME.fullmatch(name):
            files[match[1], int(match[2])] = storage.join(folder, name)
    if not files:
        raise InputError(f"no lists such as brush_hair_test_split1.txt in {folder}", remedy=_GET_THEM)
    return files


def _lines(url: str) -> Iterator[tuple[str, str]]:
    """Yield (file name, code) of each line; each video once."""
    seen: dict[str, str] = {}
    for place, line in numbered_lines(url, _GET_THEM):
        video, _, code = line.rpartition(" ")
        video = video.strip()
        if code not in {_NO_PART, *_PARTS} or not video or "/" in video:
            raise InputError(
                f"{place}: {line!r} is not 'video.avi 0', 1 or 2 (in no part, train, test)",
                remedy="mend or remove the line",
            )
        if video in seen:
            raise InputError(f"{place}: {video} stands in {seen[video]} already", remedy="remove one of the two lines")
        seen[video] = place
        yield video, code


def _group(name: str, stem: str) -> int:
    """Return the number of the film that a clip was cut from, -1 for a name of another make."""
    if not (match := _ATTRIBUTES.search(stem)):
        return -1
    source = stem[: match.start()]
    action = f"_{name}"
    return group_number(source[: -len(action)] if source.casefold().endswith(action.casefold()) else source)


LAYOUT = Layout(
    "hmdb51",
    read_hmdb51,
    "the folder of lists such as brush_hair_test_split1.txt",
    list_name=_LIST_NAME,
    video_name=re.compile(f".+{_ATTRIBUTES.pattern}", re.IGNORECASE),
    own_splits=True,
)
