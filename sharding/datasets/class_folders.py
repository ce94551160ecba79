"""Videos in class folders, matched to lists that name them as `Class/file.avi`."""

from collections.abc import Callable, Mapping
from pathlib import Path

from pclkd.sharding.common import storage
from pclkd.sharding.common.errors import InputError
from pclkd.sharding.datasets.dataset import Dataset, Part, Video
from pclkd.sharding.datasets.names import printable, sample_key
from pclkd.sharding.datasets.video_files import FoundVideo, find_videos, stem

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

    Names are matched exactly first, then without regard to case, because copies of the data sets differ in it. Folders
    of no class are passed over; videos that no list names are packed in no part.

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
    found = [video for video in find_videos(root, levels=2) if video.name.partition("/")[0].casefold() in labels]
    found = [video for video in found if "/" in video.name]
    if not found:
        raise _nothing_found(root, labels)
    on_disk, missing = _match([video.name for video in found], listed)
    videos = []
    for video in found:
        label = labels[video.name.partition("/")[0].casefold()]
        name = stem(video.name)
        parts = on_disk.get(video.name, {})
        number = group(classes[label], name)
        videos.append(Video(video.path, printable(video.name), sample_key(name), label, number, parts))
    unlisted = tuple(printable(video.name) for video in found if video.name not in on_disk)
    shown = tuple(map(printable, classes))
    return Dataset(kind, source_name(root), shown, numbers, tuple(videos), missing, unlisted)


def source_name(url: str | Path) -> str:
    """Return the last name of a path or URL, as printable text."""
    if storage.is_remote(url):
        return printable(str(url).rstrip("/").rpartition("/")[2])
    return printable(storage.local_path(url).resolve().name)


def _match(
    names: list[str], listed: Mapping[str, dict[int, Part]]
) -> tuple[dict[str, dict[int, Part]], tuple[str, ...]]:
    """Return the parts by name on disk, and the listed names that are not there."""
    exact = set(names)
    folded = {name.casefold(): name for name in names if name not in listed}
    on_disk: dict[str, dict[int, Part]] = {}
    missing = []
    for name, parts in listed.items():
        found = name if name in exact else folded.pop(name.casefold(), None)
        if found is None:
            missing.append(printable(name))
        else:
            on_disk[found] = dict(parts)
    return on_disk, tuple(sorted(missing))


def _nothing_found(root: str | Path, labels: Mapping[str, int]) -> InputError:
    """Tell which of the usual mistakes it is."""
    folders = _class_folders(root, labels)
    if folders:
        deeper = _one_deeper(find_videos(storage.join(root, folders[0]), levels=2))
        remedy = f"move the videos up from folders such as {folders[0]}/{deeper}" if deeper else "unpack them there"
        return InputError(f"no video file in the {len(folders)} class folders of {root}", remedy=remedy)
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


def _one_deeper(videos: list[FoundVideo]) -> str:
    return videos[0].name.rpartition("/")[0] if videos else ""
