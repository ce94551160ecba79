"""A table of videos: a CSV file with the columns path and label, and, if wanted, group, split, start and end."""

import math
import os
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path, PurePosixPath
from typing import Literal

from pclkd.sharding.common import storage
from pclkd.sharding.common.errors import InputError
from pclkd.sharding.datasets.class_folders import source_name
from pclkd.sharding.datasets.dataset import Dataset, Span, Video
from pclkd.sharding.datasets.layout import Layout
from pclkd.sharding.datasets.list_files import is_list_file, table_rows
from pclkd.sharding.datasets.names import group_number, is_number, path_key, printable, sample_key
from pclkd.sharding.datasets.parts import PartWord, assign_parts, part_word
from pclkd.sharding.datasets.video_files import bare_name, is_video_name

__all__ = ["LAYOUT", "read_table"]

_COLUMNS = ("path", "label")
_SPANS: dict[tuple[str, str], Literal["s", "frames"]] = {
    ("start", "end"): "s",
    ("start_frame", "end_frame"): "frames",
}
_KNOWN = {*_COLUMNS, "group", "split", *(name for pair in _SPANS for name in pair)}
_HEADER = "begin the table with the line path,label or path,label,group,split,start,end"


@dataclass(frozen=True)
class _Row:
    path: str
    label: str
    group: str
    word: PartWord | None
    place: str
    span: Span | None

    @property
    def key(self) -> str:
        """Name of the sample, but for the class."""
        whole = path_key(self.path.rpartition("://")[2].lstrip("/"))
        return sample_key(f"{whole}-{self.span.tag}") if self.span else whole


def read_table(root: str | Path, table: str | Path, test_share: float = 0.0) -> Dataset:
    """Read a CSV file of videos.

    A path is a URL, absolute, or relative to `root`; what is not there is looked for under another suffix, and on disk
    beside the table. URLs of their own are not looked up: what cannot be fetched ends in quarantine. Labels follow the
    alphabet, or the numbers where all labels are numbers. With columns `start` and `end` (seconds) or `start_frame` and
    `end_frame` a row is a span of its video, and many rows may name one video.

    Raises:
        InputError: no such table, a malformed row, a path listed twice with different words, no video at all, or two
            videos that would share a key.
    """
    if not is_list_file(table):
        raise InputError(f"{table} is no table of videos", remedy="give the file itself, named .csv")
    rows, ignored = _read_rows(root, str(table))
    locate = _finder(root, str(table))
    names = {row.label for row in rows}
    classes = sorted(names, key=int) if all(map(is_number, names)) else sorted(names)
    labels = {name: label for label, name in enumerate(classes)}
    videos: list[Video] = []
    words: list[PartWord | None] = []
    missing = []
    renamed = []
    # A span may show several actions at once: then it is a sample of each.
    shared = {key for key, count in Counter(row.key for row in rows).items() if count > 1}
    for row in sorted(rows, key=lambda row: (row.path, row.span or _NO_SPAN, row.label)):
        path = locate(row.path)
        if path is None:
            missing.append(printable(row.path))
            continue
        name = row.path
        if not storage.is_remote(name) and not path.rstrip("/").endswith(f"/{name}") and path != name:
            name = str(PurePosixPath(name).with_name(PurePosixPath(path).name))
            renamed.append((name, row.path))
        words.append(row.word)
        # Clips of one video show the same things: they stay together where a test part is held out.
        group = group_number(row.group or (row.path if row.span else ""))
        key = sample_key(f"{row.key}-c{labels[row.label]}") if row.span and row.key in shared else row.key
        videos.append(Video(path, printable(name), key, labels[row.label], group, {}, row.span))
    if not videos:
        raise InputError(
            f"none of the {len(rows)} videos in {table} is there, the first is {missing[0]}",
            remedy=f"write the paths as seen from {root}, or give the folder that they start from",
        )
    notes: tuple[str, ...] = (f"the columns {', '.join(ignored)} are not used",) if ignored else ()
    if renamed:
        told = " for ".join(map(printable, renamed[0]))
        notes += (f"{len(renamed)} videos are matched to the table without their suffix, such as {told}",)
    if spans := sum(row.span is not None for row in rows):
        notes += (f"{spans} rows are spans of {len({row.path for row in rows if row.span})} videos",)
    shown = tuple(map(printable, classes))
    dataset = Dataset("csv", source_name(table), shown, (), tuple(videos), tuple(missing), (), notes)
    return assign_parts(dataset, words, test_share)


def _read_rows(root: str | Path, url: str) -> tuple[list[_Row], tuple[str, ...]]:
    """Return the rows, each path or span of it once, and the columns that mean nothing here."""
    rows: dict[tuple[str, Span | None, str], _Row] = {}
    ignored: tuple[str, ...] = ()
    for row in _rows(root, url):
        other = rows.setdefault((row.path, row.span, row.label if row.span else ""), row)
        if (other.label, other.group, other.word) != (row.label, row.group, row.word):
            raise InputError(
                f"{row.place}: {printable(row.path)} stands in {other.place} already, with another label, group or "
                "split",
                remedy="remove one of the two rows",
            )
    if not rows:
        raise InputError(f"{url} holds no video", remedy=_HEADER)
    if len({row.span.unit for row in rows.values() if row.span}) > 1:
        raise InputError(f"{url} has spans in seconds and in frames", remedy="use one of the two in all rows")
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
        yield _Row(_short(root, _tidy(row["path"])), row["label"], row.get("group", ""), word, place, _span(row, place))


def _span(row: dict[str, str], place: str) -> Span | None:
    told = [pair for pair in _SPANS if any(row.get(name) for name in pair)]
    if not told:
        return None
    cells = [row.get(name, "") for name in told[0]]
    try:
        start, end = map(float, cells)
    except ValueError:
        start = end = math.nan
    if len(told) > 1 or not 0 <= start < end < math.inf:
        raise InputError(
            f"{place}: {' and '.join(told[0])} are {' and '.join(map(repr, cells))}",
            remedy="write two numbers of which the second is larger, as seconds (start,end) or as frames "
            "(start_frame,end_frame)",
        )
    return Span(start, end, _SPANS[told[0]])


def _tidy(path: str) -> str:
    return path if storage.is_remote(path) else os.path.normpath(storage.local_path(path))


def _finder(root: str | Path, table: str) -> Callable[[str], str | None]:
    """Return the function that turns a path of the table into where the video is, None where it is not."""
    if storage.is_remote(root):
        there = set(storage.find(str(root)))
        bare = {bare_name(name): name for name in there if is_video_name(name.rpartition("/")[2])}

        def locate_remote(path: str) -> str | None:
            if storage.is_remote(path):
                return path
            if Path(path).is_absolute():
                return path if os.path.lexists(path) else None
            found = path if path in there else bare.get(bare_name(path))
            return storage.join(root, found) if found else None

        return locate_remote
    folders = [storage.local_path(root)]
    if not storage.is_remote(table):
        folders.append(storage.local_path(table).parent)

    @cache
    def bare_names(folder: Path) -> dict[str, Path]:
        """Videos of a folder by their names without suffix."""
        files = folder.iterdir() if folder.is_dir() else iter(())
        return {_bare(file): file for file in sorted(files) if is_video_name(file.name)}

    def locate(path: str) -> str | None:
        if storage.is_remote(path):
            return path
        # A link that leads nowhere is there: its reason belongs into the manifest.
        places = [folder / path for folder in folders]
        there = next((place for place in places if os.path.lexists(place)), None)
        there = there or next(
            (found for place in places if (found := bare_names(place.parent).get(_bare(place)))), None
        )
        return str(there) if there else None

    return locate


def _bare(path: Path) -> str:
    return bare_name(path.name).casefold()


def _short(root: str | Path, path: str) -> str:
    """Return a path as seen from the folder of videos if it lies there: names must not tell where the folder is."""
    if storage.is_remote(path):
        return path.removeprefix(str(root).rstrip("/") + "/")
    return path if storage.is_remote(root) else path.removeprefix(f"{storage.local_path(root).absolute()}/")


_NO_SPAN = Span(0, 0)
LAYOUT = Layout("csv", read_table, "a table .csv that begins with path,label", columns=_COLUMNS, one_file=True)
