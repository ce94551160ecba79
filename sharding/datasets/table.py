"""A table of videos: a CSV file with the columns path and label, and, if wanted, group and split."""

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from pclkd.sharding.common import storage
from pclkd.sharding.common.errors import InputError
from pclkd.sharding.datasets.class_folders import source_name
from pclkd.sharding.datasets.dataset import Dataset, Video
from pclkd.sharding.datasets.layout import Layout
from pclkd.sharding.datasets.list_files import is_list_file, table_rows
from pclkd.sharding.datasets.names import group_number, path_key, printable
from pclkd.sharding.datasets.parts import PartWord, assign_parts, part_word

__all__ = ["LAYOUT", "read_table"]

_COLUMNS = ("path", "label")
_KNOWN = {*_COLUMNS, "group", "split"}
_HEADER = "begin the table with the line path,label or path,label,group,split"


@dataclass(frozen=True)
class _Row:
    path: str
    label: str
    group: str
    word: PartWord | None
    place: str


def read_table(root: str | Path, table: str | Path, test_share: float = 0.0) -> Dataset:
    """Read a CSV file of videos.

    A path is a URL, absolute, or relative to `root`; on disk, what is not there is looked for beside the table. URLs of
    their own are not looked up: what cannot be fetched ends in quarantine. Labels follow the alphabet, or the numbers
    where all labels are numbers.

    Raises:
        InputError: no such table, a malformed row, a path listed twice with different words, no video at all, or two
            videos that would share a key.
    """
    if not is_list_file(table):
        raise InputError(f"{table} is no table of videos", remedy="give the file itself, named .csv")
    rows, ignored = _read_rows(root, str(table))
    locate = _finder(root, str(table))
    names = {row.label for row in rows}
    classes = sorted(names, key=int) if all(name.isdecimal() and name.isascii() for name in names) else sorted(names)
    labels = {name: label for label, name in enumerate(classes)}
    videos: list[Video] = []
    words: list[PartWord | None] = []
    missing = []
    for row in sorted(rows, key=lambda row: row.path):
        path = locate(row.path)
        if path is None:
            missing.append(printable(row.path))
            continue
        words.append(row.word)
        group = group_number(row.group)
        key = path_key(row.path.rpartition("://")[2].lstrip("/"))
        videos.append(Video(path, printable(row.path), key, labels[row.label], group, {}))
    if not videos:
        raise InputError(
            f"none of the {len(rows)} videos in {table} is there, the first is {missing[0]}",
            remedy=f"write the paths as seen from {root}, or give the folder that they start from",
        )
    notes = (f"the columns {', '.join(ignored)} are not used",) if ignored else ()
    shown = tuple(map(printable, classes))
    dataset = Dataset("csv", source_name(table), shown, (), tuple(videos), tuple(missing), (), notes)
    return assign_parts(dataset, words, test_share)


def _read_rows(root: str | Path, url: str) -> tuple[list[_Row], tuple[str, ...]]:
    """Return the rows, each path once, and the columns that mean nothing here."""
    rows: dict[str, _Row] = {}
    ignored: tuple[str, ...] = ()
    for row in _rows(root, url):
        other = rows.setdefault(row.path, row)
        if (other.label, other.group, other.word) != (row.label, row.group, row.word):
            raise InputError(
                f"{row.place}: {printable(row.path)} stands in {other.place} already, with another label, group or "
                "split",
                remedy="remove one of the two rows",
            )
    if not rows:
        raise InputError(f"{url} holds no video", remedy=_HEADER)
    first = next(table_rows(url, _HEADER))[1]
    ignored = tuple(repr(name) for name in first if name not in _KNOWN)
    return list(rows.values()), ignored


def _rows(root: str | Path, url: str) -> Iterator[_Row]:
    for place, row in table_rows(url, _HEADER):
        if absent := sorted(set(_COLUMNS) - row.keys()):
            raise InputError(f"{url} has no column {absent[0]!r}", remedy=_HEADER)
        for column in sorted(_COLUMNS):
            if not row[column]:
                raise InputError(f"{place}: the {column} is empty", remedy="fill it in or remove the row")
        word = part_word(row.get("split", ""))
        if row.get("split") and word is None:
            raise InputError(f"{place}: unknown split {row['split']!r}", remedy="use train, val, test or nothing")
        yield _Row(_short(root, _tidy(row["path"])), row["label"], row.get("group", ""), word, place)


def _tidy(path: str) -> str:
    return path if storage.is_remote(path) else os.path.normpath(storage.local_path(path))


def _finder(root: str | Path, table: str) -> Callable[[str], str | None]:
    """Return the function that turns a path of the table into where the video is, None where it is not."""
    if storage.is_remote(root):
        there = set(storage.find(str(root)))

        def locate_remote(path: str) -> str | None:
            if storage.is_remote(path):
                return path
            if Path(path).is_absolute():
                return path if os.path.lexists(path) else None
            return storage.join(root, path) if path in there else None

        return locate_remote
    folders = [storage.local_path(root)]
    if not storage.is_remote(table):
        folders.append(storage.local_path(table).parent)

    def locate(path: str) -> str | None:
        if storage.is_remote(path):
            return path
        # A link that leads nowhere is there: its reason belongs into the manifest.
        places = (str(folder / path) for folder in folders)
        return next((place for place in places if os.path.lexists(place)), None)

    return locate


def _short(root: str | Path, path: str) -> str:
    """Return a path as seen from the folder of videos if it lies there: names must not tell where the folder is."""
    if storage.is_remote(path):
        return path.removeprefix(str(root).rstrip("/") + "/")
    return path if storage.is_remote(root) else path.removeprefix(f"{storage.local_path(root).absolute()}/")


LAYOUT = Layout("csv", read_table, "a table .csv that begins with path,label", columns=_COLUMNS, one_file=True)
