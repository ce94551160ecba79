"""Reading a data set of any layout: which one it is, from what lies where the user points, and its reader called."""

from dataclasses import replace
from pathlib import Path

from pclkd.sharding.common import storage
from pclkd.sharding.common.errors import InputError
from pclkd.sharding.datasets.dataset import Dataset
from pclkd.sharding.datasets.layout import Layout, find_layout, layout_names
from pclkd.sharding.datasets.list_files import is_list_file, list_names, read_header
from pclkd.sharding.datasets.video_files import Listing, find_videos

__all__ = ["detect_lists", "read_dataset", "refuse_lost_lists"]


def _with_lists() -> list[Layout]:
    return [row for row in map(find_layout, layout_names()) if row.lists]


def _expected() -> str:
    return "give " + ", or ".join(f"{row.expects} ({row.name})" for row in _with_lists())


def detect_lists(splits: str | Path) -> tuple[Layout, str]:
    """Return the layout that the lists in `splits` have, and the file that tells it.

    Raises:
        InputError: nothing there, lists of no known kind, or of several.
    """
    if is_list_file(splits):
        if layout := _layout_of_list(str(splits)):
            return layout, str(splits)
        raise _unknown_table(str(splits))
    if not storage.is_remote(splits) and storage.local_path(splits).is_file():
        listed = _layout_of_list(str(splits))
        if listed and listed.one_file:
            return listed, str(splits)
        whole = storage.local_path(splits).parent
        raise InputError(f"{splits} is no table (.csv)", remedy=f"give its folder, {whole}" if listed else _expected())
    layouts: dict[str, list[str]] = {}
    names = list_names(splits, _expected())
    for name in names:
        if layout := _layout_of_list(storage.join(splits, name)):
            layouts.setdefault(layout.name, []).append(name)
    if not layouts:
        if tables := [name for name in names if is_list_file(name)]:
            raise _unknown_table(storage.join(splits, tables[0]))
        raise InputError(f"no lists of a known kind in {splits}", remedy=_below(splits) or _expected())
    if len(layouts) > 1:
        found = " and ".join(f"{told[0]} ({kind})" for kind, told in sorted(layouts.items()))
        known = ", ".join(row.name for row in _with_lists())
        raise InputError(
            f"{splits} holds lists of several kinds: {found}", remedy=f"say which with --dataset, one of {known}"
        )
    ((kind, told),) = layouts.items()
    layout = find_layout(kind)
    if layout.one_file and len(told) > 1:
        raise InputError(
            f"{splits} holds several tables of videos: {told[0]}, {told[1]}", remedy="say --splits with one of them"
        )
    return layout, storage.join(splits, told[0])


def _layout_of_list(url: str) -> Layout | None:
    """Return the layout that one list tells: by its name, or by the columns of the table that it is."""
    name = url.rpartition("/")[2]
    for row in _with_lists():
        if row.list_name and row.list_name.fullmatch(name):
            return row
    if not is_list_file(url):
        return None
    header = set(read_header(url))
    fitting = [row for row in _with_lists() if row.columns and header.issuperset(row.columns)]
    return max(fitting, key=lambda row: len(row.columns), default=None)


def _below(folder: str | Path) -> str:
    """Return the remedy for giving the folder above that of the lists; empty when that is not the mistake."""
    if storage.is_remote(folder):
        return ""
    for entry in sorted(storage.local_path(folder).iterdir()):
        if entry.is_dir() and any(_layout_of_list(storage.join(entry, name)) for name in list_names(entry, "")):
            return f"give {entry}"
    return ""


def _unknown_table(url: str) -> InputError:
    headers = " nor ".join(",".join(row.columns) for row in _with_lists() if row.columns)
    return InputError(
        f"{url} is no table of a known kind: its first line has neither {headers}",
        remedy="begin the table with the line path,label (commas between the columns)",
    )


def refuse_lost_lists(root: str | Path, listing: Listing) -> None:
    """Refuse to take a data set that has official splits for a plain folder: they would be lost without a word.

    Raises:
        InputError: most names look like those of such a data set.
    """
    for row in _with_lists():
        mark = row.video_name
        videos = listing.videos
        if mark and sum(bool(mark.fullmatch(video.stem)) for video in videos) > len(videos) / 2:
            raise InputError(
                f"the videos in {root} are named like those of {row.name}, but there are no lists",
                remedy="say --splits LISTS, or --dataset folder to pack them without the official splits",
            )


def read_dataset(
    videos: str | Path, splits: str | Path | None = None, kind: str = "auto", test_share: float = 0.0
) -> Dataset:
    """Read a data set: its lists, and the videos that are there. Nothing is opened but the lists.

    Args:
        videos: path or URL of the folder of videos, or of a table of them.
        splits: path or URL of the lists: a folder, or a table.
        kind: name of the layout (`layout_names`); `auto` tells it by the lists, and by their absence a plain
            folder, or loose files without labels where no video lies in a folder.
        test_share: 0 to 1, exclusive: what to hold out as the test part where nothing tells the parts.

    Raises:
        InputError: anything wrong with the videos or the lists, or a layout that cannot be told.
    """
    if splits is None and is_list_file(videos) and (storage.is_remote(videos) or storage.local_path(videos).is_file()):
        videos, splits = _parent(videos), videos
    layout = None if kind == "auto" else find_layout(kind)
    if splits is None:
        return _read_without_lists(videos, layout, test_share)
    note: tuple[str, ...] = ()
    if layout is None:
        layout, told_by = detect_lists(splits)
        splits = told_by if layout.one_file else splits
        note = (f"read as {layout.name}, as {told_by} tells",)
    if not layout.lists:
        what = "a plain folder" if layout.name == "folder" else layout.name
        raise InputError(f"{what} has no lists, but there is --splits {splits}", remedy="leave one of them out")
    if not layout.own_splits:
        dataset = layout.reader(videos, splits, test_share)
    elif test_share:
        raise InputError(
            f"a test share of {test_share} for {layout.name}, which has splits of its own",
            remedy="leave --test-share out",
        )
    else:
        dataset = layout.reader(videos, splits)
    return replace(dataset, notes=(*note, *dataset.notes))


def _read_without_lists(videos: str | Path, layout: Layout | None, test_share: float) -> Dataset:
    if layout and layout.lists:
        raise InputError(
            f"no lists for {videos}, which {layout.name} needs", remedy=f"say --splits with {layout.expects}"
        )
    if layout:
        return layout.reader(videos, test_share)
    listing = find_videos(videos)
    refuse_lost_lists(videos, listing)
    loose = listing.videos and not any(video.folders for video in listing.videos)
    dataset = find_layout("loose" if loose else "folder").reader(videos, test_share, listing)
    found = f"{len(listing.videos)} videos in no class folder" if loose else f"{len(dataset.classes)} class folders"
    note = f"read as {dataset.kind}: {found} in {videos}, no lists"
    return replace(dataset, notes=(note, *dataset.notes))


def _parent(table: str | Path) -> str:
    if storage.is_remote(table):
        return str(table).rpartition("/")[0]
    return str(storage.local_path(table).parent)
