"""UCF101: class folders, and the official lists classInd.txt, trainlistNN.txt, testlistNN.txt.

The lists exist with CRLF and with LF ends; labels count from 1; test lists carry no label. The class of a video is
told by the folder it stands in, never by its file name: in `HandstandPushups/v_HandStandPushups_g01_c01.avi`
the two differ in case.
"""

import re
from dataclasses import dataclass
from pathlib import Path

from pclkd.sharding.common import storage
from pclkd.sharding.common.errors import InputError
from pclkd.sharding.datasets.class_folders import match_lists
from pclkd.sharding.datasets.dataset import Dataset, Part
from pclkd.sharding.datasets.layout import Layout
from pclkd.sharding.datasets.list_files import list_names, numbered_lines
from pclkd.sharding.datasets.names import is_number, ucf_group

__all__ = ["LAYOUT", "SplitLists", "read_ucf101"]

_CLASS_LIST = "classInd.txt"
_LIST_NAME = re.compile(r"(train|test)list(\d{1,9})\.txt", re.ASCII)
_GET_THEM = "use the folder that holds classInd.txt and the lists trainlist01.txt and testlist01.txt to 03"


def read_ucf101(root: str | Path, splits: str | Path) -> Dataset:
    """Read the lists in the folder `splits` and match them to the class folders of `root`; both may be URLs.

    Raises:
        InputError: anything wrong with the folder or the lists.
    """
    lists = SplitLists.read(splits)
    return match_lists("ucf101", root, lists.classes, lists.numbers, lists.listed, lambda _, stem: ucf_group(stem))


@dataclass(frozen=True)
class SplitLists:
    """What the lists say.

    Attributes:
        classes: class names; the position is the 0-based label.
        numbers: the splits that the folder describes, ascending, numbered as in the file names.
        listed: for each listed video (`Class/file.avi`) its part in each split that names it.
    """

    classes: tuple[str, ...]
    numbers: tuple[int, ...]
    listed: dict[str, dict[int, Part]]

    @classmethod
    def read(cls, folder: str | Path) -> "SplitLists":
        """Read all lists of `folder`.

        Raises:
            InputError: no such folder, a missing or malformed list, an unknown class, a label that contradicts the
                folder, or a video in both parts of one split.
        """
        classes = _read_classes(storage.join(folder, _CLASS_LIST))
        files = _list_files(folder)
        labels = {name: label for label, name in enumerate(classes)}
        listed: dict[str, dict[int, Part]] = {}
        for (number, part), path in sorted(files.items()):
            for place, line in numbered_lines(path, _GET_THEM):
                video = _listed_video(line, place, part, labels)
                parts = listed.setdefault(video, {})
                if parts.get(number, part) != part:
                    raise InputError(
                        f"{place}: {video} stands in both parts of split {number}",
                        remedy="remove it from one of the two lists",
                    )
                parts[number] = part
        return cls(classes, tuple(sorted({number for number, _ in files})), listed)


def _read_classes(path: str) -> tuple[str, ...]:
    """Read `<label> <name>` lines; labels must be 1..N, each once."""
    names: dict[int, str] = {}
    for place, line in numbered_lines(path, _GET_THEM):
        label, _, name = line.partition(" ")
        name = name.strip()
        if not is_number(label) or not name or "/" in name:
            raise InputError(f"{place}: {line!r} is not '<label> <class>'", remedy="write lines such as '1 Archery'")
        if int(label) in names or name in names.values():
            raise InputError(f"{place}: {line!r} repeats a label or a class", remedy="give each class one line")
        names[int(label)] = name
    if sorted(names) != list(range(1, len(names) + 1)) or not names:
        raise InputError(
            f"{path}: the labels are not 1 to {len(names)}", remedy="number the classes from 1 without gaps"
        )
    return tuple(names[label] for label in sorted(names))


def _list_files(folder: str | Path) -> dict[tuple[int, Part], str]:
    """Find the lists; each split needs both of its parts."""
    files: dict[tuple[int, Part], str] = {}
    for name in list_names(folder, _GET_THEM):
        if match := _LIST_NAME.fullmatch(name):
            part: Part = "train" if match[1] == "train" else "test"
            files[int(match[2]), part] = storage.join(folder, name)
    if not files:
        raise InputError(f"no trainlist*.txt and testlist*.txt in {folder}", remedy=_GET_THEM)
    parts: tuple[Part, Part] = ("train", "test")
    for number in sorted({number for number, _ in files}):
        for part in parts:
            if (number, part) not in files:
                raise InputError(
                    f"split {number} has no {storage.join(folder, f'{part}list{number:02d}.txt')}",
                    remedy="add that list, or remove the other half of the split",
                )
    return files


def _listed_video(line: str, place: str, part: Part, labels: dict[str, int]) -> str:
    """Take `Class/file.avi [label]` apart and check it against the classes."""
    # A file name may hold blanks, so only a last word that is a number counts as the label.
    head, _, tail = line.rpartition(" ")
    video, label = (head.strip(), int(tail)) if head and is_number(tail) else (line, None)
    folder, slash, name = video.partition("/")
    if not slash or not name or "/" in name or (part == "train" and label is None):
        shape = "Class/video.avi label" if part == "train" else "Class/video.avi"
        raise InputError(f"{place}: {line!r} is not '{shape}'", remedy="mend or remove the line")
    if folder not in labels:
        raise InputError(
            f"{place}: unknown class {folder!r}", remedy="add it to classInd.txt or correct the line (case counts)"
        )
    if label is not None and label != labels[folder] + 1:
        raise InputError(
            f"{place}: label {label} but class {folder!r} is number {labels[folder] + 1} in classInd.txt",
            remedy="use the classInd.txt that belongs to this list",
        )
    return video


LAYOUT = Layout(
    "ucf101",
    read_ucf101,
    "the folder of classInd.txt and its lists",
    list_name=re.compile(rf"{re.escape(_CLASS_LIST)}|{_LIST_NAME.pattern}"),
    video_name=re.compile(r"v_.+_g\d+_c\d+", re.IGNORECASE),
    own_splits=True,
)
