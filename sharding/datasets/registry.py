"""Reading a data set of any known layout."""

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal, get_args

from pclkd.sharding.common import storage
from pclkd.sharding.common.errors import InputError
from pclkd.sharding.datasets import hmdb51, kinetics, ucf101
from pclkd.sharding.datasets import table as plain_table
from pclkd.sharding.datasets.dataset import Dataset, DatasetKind
from pclkd.sharding.datasets.folder import read_folder
from pclkd.sharding.datasets.hmdb51 import read_hmdb51
from pclkd.sharding.datasets.kinetics import read_kinetics
from pclkd.sharding.datasets.list_files import is_list_file, list_names, read_header
from pclkd.sharding.datasets.table import read_table
from pclkd.sharding.datasets.ucf101 import read_ucf101
from pclkd.sharding.datasets.video_files import FoundVideo, find_videos, stem

__all__ = ["DATASETS", "DatasetChoice", "detect_lists", "read_dataset", "refuse_lost_lists"]


_SAY_WHICH = "say which with --dataset ucf101, hmdb51, kinetics or csv"
_LISTS = (
    "give the folder of classInd.txt and its lists (UCF101) or of lists such as brush_hair_test_split1.txt (HMDB51), "
    "or a table .csv (Kinetics, or path,label)"
)
# What a file name looks like whose data set has official lists.
_MARKS: dict[str, re.Pattern[str]] = {
    "UCF101": re.compile(r"v_.+_g\d+_c\d+", re.IGNORECASE),
    "HMDB51": re.compile(r".+_[a-z]_[a-z]{2}_np\d_[a-z]{2}_[a-z]{3}_\d+", re.IGNORECASE),
    "Kinetics": re.compile(r"[\w-]{11}_\d{6}_\d{6}", re.ASCII),
}


def detect_lists(splits: str | Path) -> tuple[DatasetKind, str]:
    """Return the layout that the lists in `splits` have, and the file that tells it.

    Raises:
        InputError: nothing there, lists of no known kind, or of several.
    """
    if is_list_file(splits):
        if kind := _table_kind(str(splits)):
            return kind, str(splits)
        raise _unknown_table(str(splits))
    if not storage.is_remote(splits) and storage.local_path(splits).is_file():
        whole = storage.local_path(splits).parent
        listed = _kind_of_list(whole, storage.local_path(splits).name)
        raise InputError(f"{splits} is no table (.csv)", remedy=f"give its folder, {whole}" if listed else _LISTS)
    kinds: dict[DatasetKind, list[str]] = {}
    names = list_names(splits, _LISTS)
    for name in names:
        if kind := _kind_of_list(splits, name):
            kinds.setdefault(kind, []).append(name)
    if not kinds:
        if tables := [name for name in names if is_list_file(name)]:
            raise _unknown_table(storage.join(splits, tables[0]))
        raise InputError(f"no lists of a known kind in {splits}", remedy=_below(splits) or _LISTS)
    if len(kinds) > 1:
        found = " and ".join(f"{told[0]} ({kind})" for kind, told in sorted(kinds.items()))
        raise InputError(f"{splits} holds lists of several kinds: {found}", remedy=_SAY_WHICH)
    ((kind, told),) = kinds.items()
    if kind == "csv" and len(told) > 1:
        raise InputError(
            f"{splits} holds several tables of videos: {told[0]}, {told[1]}", remedy="say --splits with one of them"
        )
    return kind, storage.join(splits, told[0])


def _kind_of_list(folder: str | Path, name: str) -> DatasetKind | None:
    if name == ucf101.CLASS_LIST or ucf101.LIST_NAME.fullmatch(name):
        return "ucf101"
    if hmdb51.LIST_NAME.fullmatch(name):
        return "hmdb51"
    return _table_kind(storage.join(folder, name)) if is_list_file(name) else None


def _below(folder: str | Path) -> str:
    """Return the remedy for giving the folder above that of the lists; empty when that is not the mistake."""
    if storage.is_remote(folder):
        return ""
    for entry in sorted(storage.local_path(folder).iterdir()):
        if entry.is_dir() and any(_kind_of_list(entry, name) for name in list_names(entry, "")):
            return f"give {entry}"
    return ""


def _table_kind(url: str) -> DatasetKind | None:
    header = set(read_header(url))
    if header >= kinetics.COLUMNS:
        return "kinetics"
    return "csv" if header >= plain_table.COLUMNS else None


def _unknown_table(url: str) -> InputError:
    return InputError(
        f"{url} is no table of a known kind: its first line has neither path,label nor youtube_id,time_start,time_end",
        remedy="begin the table with the line path,label (commas between the columns)",
    )


def refuse_lost_lists(root: str | Path, found: Sequence[FoundVideo]) -> None:
    """Refuse to take a data set that has official splits for a plain folder: they would be lost without a word.

    Raises:
        InputError: most names look like those of such a data set.
    """
    for name, mark in _MARKS.items():
        if sum(bool(mark.fullmatch(stem(video.name))) for video in found) > len(found) / 2:
            raise InputError(
                f"the videos in {root} are named like those of {name}, but there are no lists",
                remedy="say --splits LISTS, or --dataset folder to pack them without the official splits",
            )


DatasetChoice = Literal["auto", DatasetKind]
DATASETS: tuple[str, ...] = ("auto", *get_args(DatasetKind))


def read_dataset(
    videos: str | Path, splits: str | Path | None = None, kind: DatasetChoice = "auto", test_share: float = 0.0
) -> Dataset:
    """Read a data set: its lists, and the videos that are there. Nothing is opened but the lists.

    Args:
        videos: path or URL of the folder of videos, or of a table of them.
        splits: path or URL of the lists: a folder, or a table.
        kind: the layout; `auto` tells it by the lists, and by their absence a plain folder.
        test_share: 0 to 1, exclusive: what to hold out as the test part where nothing tells the parts.

    Raises:
        InputError: anything wrong with the videos or the lists, or a layout that cannot be told.
    """
    if splits is None and is_list_file(videos) and (storage.is_remote(videos) or storage.local_path(videos).is_file()):
        videos, splits = _parent(videos), videos
    if splits is None:
        return _read_without_lists(videos, kind, test_share)
    if kind == "folder":
        raise InputError(f"a plain folder has no lists, but there is --splits {splits}", remedy="leave one of them out")
    note: tuple[str, ...] = ()
    if kind == "auto":
        kind, told_by = detect_lists(splits)
        splits = told_by if kind == "csv" else splits
        note = (f"read as {kind}, as {told_by} tells",)
    dataset = _read_with_lists(videos, splits, kind, test_share)
    return replace(dataset, notes=(*note, *dataset.notes))


def _read_without_lists(videos: str | Path, kind: DatasetChoice, test_share: float) -> Dataset:
    if kind not in ("auto", "folder"):
        raise InputError(f"no lists for {videos}, which {kind} needs", remedy="say --splits with their folder or table")
    found = find_videos(videos)
    if kind == "folder":
        return read_folder(videos, test_share, found)
    refuse_lost_lists(videos, found)
    dataset = read_folder(videos, test_share, found)
    note = f"read as folder: {len(dataset.classes)} class folders in {videos}, no lists"
    return replace(dataset, notes=(note, *dataset.notes))


def _read_with_lists(videos: str | Path, splits: str | Path, kind: DatasetKind, test_share: float) -> Dataset:
    if kind == "kinetics":
        return read_kinetics(videos, splits, test_share)
    if kind == "csv":
        return read_table(videos, splits, test_share)
    if test_share:
        raise InputError(
            f"a test share of {test_share} for {kind}, which has splits of its own", remedy="leave --test-share out"
        )
    return read_ucf101(videos, splits) if kind == "ucf101" else read_hmdb51(videos, splits)


def _parent(table: str | Path) -> str:
    if storage.is_remote(table):
        return str(table).rpartition("/")[0]
    return str(storage.local_path(table).parent)
