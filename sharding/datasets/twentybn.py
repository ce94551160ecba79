"""Something-Something v1 and v2, and Jester: videos named by numbers, lists of them for each part, a list of classes.

    something-something-v1-train.csv  jester-v1-train.csv   lines such as `53073;Closing something`, also -validation
    something-something-v1-labels.csv jester-v1-labels.csv  a class a line, in the order of the labels
    something-something-v2-train.json                       rows {"id": "78687", "template": "Holding [something]"}
    something-something-v2-labels.json                      {"Holding something": "0"}; both also without the prefix

Videos of v1 and of Jester are folders of frames, `53073/00001.jpg`, those of v2 are files, `78687.webm`.
"""

import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from pclkd.sharding.common import storage
from pclkd.sharding.common.errors import InputError
from pclkd.sharding.datasets.dataset import Dataset
from pclkd.sharding.datasets.layout import Layout
from pclkd.sharding.datasets.list_files import is_list_file, list_names, numbered_lines, read_json
from pclkd.sharding.datasets.named_clips import NamedClip, add_clip, match_names
from pclkd.sharding.datasets.parts import part_word

__all__ = ["JESTER", "SOMETHING_V1", "SOMETHING_V2", "read_twentybn"]

_GET_THEM = "use the folder that holds the lists of the train and the validation part, and that of the labels"


def read_twentybn(kind: str, list_name: re.Pattern[str], root: str | Path, splits: str | Path) -> Dataset:
    """Read the lists in the folder `splits` and match them to the videos below `root`; both may be URLs.

    Validation is the test part of split 1. The test part has no labels, and is left out. Labels are those of the list
    of labels, or follow the alphabet where there is none.

    Args:
        kind: name of the layout.
        list_name: the lists; its first group is the part, or `labels`.
        root: the folder of videos, or of folders of frames.
        splits: the folder of the lists.

    Raises:
        InputError: anything wrong with the folder or the lists.
    """
    folder = str(splits).rpartition("/")[0] or "." if is_list_file(splits) else splits
    clips: dict[str, NamedClip] = {}
    classes: list[str] = []
    unlabelled = 0
    for name in list_names(folder, _GET_THEM):
        if not (match := list_name.fullmatch(name)):
            continue
        url = storage.join(folder, name)
        if match[1] == "labels":
            classes = _labels(url)
            continue
        for place, clip, label in _rows(url):
            if label:
                add_clip(clips, clip, NamedClip(label, part_word(match[1]), place))
            else:
                unlabelled += 1
    if not clips:
        raise InputError(f"{splits} holds no list of {kind} with labels", remedy=_GET_THEM)
    for name, told in clips.items():
        if classes and told.label not in classes:
            raise InputError(
                f"{told.place}: {name} is {told.label!r}, which is not in the list of labels",
                remedy="use the lists of one release",
            )
    notes = (f"{unlabelled} videos of the test part have no labels and are left out",) if unlabelled else ()
    return match_names(kind, root, clips, classes=classes, notes=notes, expected="{}")


def _labels(url: str) -> list[str]:
    if not url.endswith(".json"):
        return [line for _, line in numbered_lines(url, _GET_THEM)]
    numbers = read_json(url, _GET_THEM)
    try:
        return sorted(numbers, key=lambda label: int(numbers[label]))
    except (TypeError, ValueError, LookupError, OverflowError):
        raise InputError(f'{url} is not {{"class": "0", ...}}', remedy=_GET_THEM) from None


def _rows(url: str) -> Iterator[tuple[str, str, str]]:
    """Yield place, video and class of each row; the class is empty where it has none."""
    if not url.endswith(".json"):
        for place, line in numbered_lines(url, _GET_THEM):
            video, _, label = line.partition(";")
            yield place, video.strip(), label.strip()
        return
    for number, row in enumerate(_checked(read_json(url, _GET_THEM), url), start=1):
        # The label itself names the things; its template is the class.
        label = str(row.get("template", "")).replace("[", "").replace("]", "")
        yield f"{url}: row {number}", str(row["id"]), label


def _checked(rows: Any, url: str) -> list[dict[str, Any]]:
    if not isinstance(rows, list) or not all(isinstance(row, dict) and "id" in row for row in rows):
        raise InputError(f'{url} is no list of rows {{"id": ..., "template": ...}}', remedy=_GET_THEM)
    return rows


def _layout(kind: str, prefix: str, suffix: str, expects: str) -> Layout:
    name = re.compile(rf"{prefix}(train|validation|test|labels)\.{suffix}")
    return Layout(kind, partial(read_twentybn, kind, name), expects, list_name=name, own_splits=True)


SOMETHING_V1 = _layout(
    "something-v1",
    "something-something-v1-",
    "csv",
    "the folder of something-something-v1-train.csv, -validation.csv and -labels.csv",
)
SOMETHING_V2 = _layout(
    "something-v2",
    "(?:something-something-v2-)?",
    "json",
    "the folder of something-something-v2-train.json, -validation.json and -labels.json",
)
JESTER = _layout(
    "jester",
    "jester-v1-",
    "csv",
    "the folder of jester-v1-train.csv, jester-v1-validation.csv and jester-v1-labels.csv",
)
