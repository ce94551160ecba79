"""Reading a data set of any known layout."""

from dataclasses import replace
from pathlib import Path
from typing import Literal, get_args

from pclkd.sharding.common import storage
from pclkd.sharding.common.errors import InputError
from pclkd.sharding.datasets.dataset import Dataset, DatasetKind
from pclkd.sharding.datasets.detect import detect_lists, refuse_lost_lists
from pclkd.sharding.datasets.folder import read_folder
from pclkd.sharding.datasets.hmdb51 import read_hmdb51
from pclkd.sharding.datasets.kinetics import read_kinetics
from pclkd.sharding.datasets.list_files import is_list_file
from pclkd.sharding.datasets.table import read_table
from pclkd.sharding.datasets.ucf101 import read_ucf101
from pclkd.sharding.datasets.video_files import find_videos

__all__ = ["DATASETS", "DatasetChoice", "read_dataset"]

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
