"""Videos in class folders, matched to lists that name them as `Class/file.avi`."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from pclkd.sharding.common import storage
from pclkd.sharding.common.errors import InputError
from pclkd.sharding.datasets.dataset import Dataset, Part, Video
from pclkd.sharding.datasets.names import printable, sample_key
from pclkd.sharding.datasets.video_files import (
    FoundVideo,
    Listing,
    bare_name,
    count_suffixes,
    find_videos,
    told_suffixes,
)

__all__ = ["match_lists", "source_name"]

_CLASS_FOLDERS = "give the folder that holds the class folders"


def match_lists(
    kind: str,
    root: str | Path,
    classes: tuple[str, ...],
    numbers: tuple[int, ...],
    listed: Mapping[str, dict[int, Part]],
    group: Callable[[str, str], int],
) -> Dataset:
    """Search the class folders of `root` and match what is there to the lists.

    Names are matched exactly first, then without regard to case, because copies of the data sets differ in it, then
    without the suffix, because copies are re-encoded. Folders of no class are passed over; videos that no list names
    are packed in no part. Where there is no class folder at all, videos that lie in `root` itself are matched by their
    names without suffix, and the lists tell their class; others are left out.

    Args:
        kind: name of the layout whose reader asks.
        root: path or URL of the folder of class folders.
        classes: class names; the position is the label.
        numbers: the splits.
        listed: parts of each listed video by `Class/file.avi`; listed in no part is not the same as not listed.
        group: the group of (class, stem of the file name).

    Raises:
        InputError: no such folder, no class folder or no video in it, classes that differ only in case, or two videos
            that would share a key.
    """
    labels = {name.casefold(): label for label, name in enumerate(classes)}
    if len(labels) < len(classes):
        twins = [name for name in classes if classes[labels[name.casefold()]] != name]
        raise InputError(
            f"the classes {twins[0]!r} and {classes[labels[twins[0].casefold()]]!r} differ only in case",
            remedy="give them different names in the lists",
        )
    listing = find_videos(root)
    deep = [video for video in listing.videos if video.folders and video.folders[0].casefold() in labels]
    found = [video for video in deep if len(video.folders) == 1]
    flat = [] if found else [video for video in listing.videos if not video.folders]
    names = _match(found, listed, (str, str.casefold, _bare)) if found else _match(flat, listed, (_bare_name,))
    if not names and not found:
        raise _nothing_found(root, labels, deep, listing)
    videos = []
    for video in found or [video for video in flat if video.name in names]:
        name = names.get(video.name)
        label = labels[(video.folders[0] if video.folders else str(name).partition("/")[0]).casefold()]
        parts = dict(listed[name]) if name else {}
        number = group(classes[label], video.stem)
        videos.append(Video(video.path, printable(video.name), sample_key(video.stem), label, number, parts))
    others = [name for name in listing.others if name.partition("/")[0].casefold() in labels]
    return Dataset(
        kind,
        source_name(root),
        tuple(map(printable, classes)),
        numbers,
        tuple(videos),
        missing=tuple(sorted(map(printable, listed.keys() - names.values()))),
        unlisted=tuple(printable(video.name) for video in found or flat if video.name not in names),
        notes=_renamed(names),
        other_files=count_suffixes([*others, *(video.name for video in deep if len(video.folders) > 1)]),
    )


def source_name(url: str | Path) -> str:
    """Return the last name of a path or URL, as printable text."""
    if storage.is_remote(url):
        return printable(str(url).rstrip("/").rpartition("/")[2])
    return printable(storage.local_path(url).resolve().name)


def _bare(name: str) -> str:
    return bare_name(name).casefold()


def _bare_name(name: str) -> str:
    return _bare(name).rpartition("/")[2]


def _match(found: Sequence[FoundVideo], listed: Iterable[str], forms: Sequence[Callable[[str], str]]) -> dict[str, str]:
    """Return the listed name of each video that has one: alike in the first of the forms in which any is."""
    matched: dict[str, str] = {}
    waiting = list(listed)
    for form in forms:
        free = {form(video.name): video.name for video in found if video.name not in matched}
        left = []
        for name in waiting:
            if (video := free.pop(form(name), None)) is None:
                left.append(name)
            else:
                matched[video] = name
        waiting = left
    return matched


def _renamed(names: Mapping[str, str]) -> tuple[str, ...]:
    """Return a note where files are not named as in the lists, but for case and class folders."""
    renamed = [
        (name, listed)
        for name, listed in names.items()
        if name.rpartition("/")[2].casefold() != listed.rpartition("/")[2].casefold()
    ]
    if not renamed:
        return ()
    name, listed = map(printable, renamed[0])
    return (f"{len(renamed)} videos are matched to the lists without their suffix, such as {name} for {listed}",)


def _nothing_found(
    root: str | Path, labels: Mapping[str, int], deep: Sequence[FoundVideo], listing: Listing
) -> InputError:
    """Tell which of the usual mistakes it is."""
    inside = [name for name in listing.others if "/" in name and name.partition("/")[0].casefold() in labels]
    folders = {video.folders[0] for video in deep} | {name.partition("/")[0] for name in inside}
    if folders := folders.union(_class_folders(root, labels)):
        remedy = f"move the videos up from folders such as {'/'.join(deep[0].folders)}" if deep else "unpack them there"
        held = f", but {told_suffixes(count_suffixes(inside))}" if inside else ""
        return InputError(f"no video file in the {len(folders)} class folders of {root}{held}", remedy=remedy)
    remedy = _CLASS_FOLDERS
    if not storage.is_remote(root):
        nested = [entry for entry in sorted(storage.local_path(root).iterdir()) if _class_folders(entry, labels)]
        remedy = f"give {nested[0]}" if nested else _CLASS_FOLDERS
    return InputError(f"{root} holds no folder named after a class of the lists", remedy=remedy)


def _class_folders(root: str | Path, labels: Mapping[str, int]) -> list[str]:
    if storage.is_remote(root) or not storage.local_path(root).is_dir():
        return []
    entries = sorted(storage.local_path(root).iterdir())
    return [entry.name for entry in entries if entry.name.casefold() in labels and entry.is_dir()]
