"""Which video files there are, and what the split lists say about each."""

import re
from dataclasses import dataclass
from pathlib import Path

from pclkd.sharding.errors import InputError
from pclkd.sharding.splits import Part, SplitLists

__all__ = ["Inventory", "Video", "take_inventory"]

_SUFFIXES = frozenset({".avi", ".mp4", ".mkv", ".webm", ".mov"})
_GROUP = re.compile(r"_g(\d+)_c\d+$", re.IGNORECASE)
_UNSAFE = re.compile(r"[^A-Za-z0-9_-]")
_LONGEST_KEY = 93  # a USTAR name holds 100 bytes, ".mjpeg" takes 6 of them


@dataclass(frozen=True)
class Video:
    """One video file on disk.

    Attributes:
        path: where it is: a local path, or a URL that fsspec reads.
        relative: `Class/file.avi`, as on disk.
        key: its name in the shards: the stem, without dots or other characters that tar readers trip over.
        label: 0-based class, taken from the folder.
        group: the number after `_g` in the name, -1 where the name tells none.
        parts: its part in each split that names it.
    """

    path: str
    relative: str
    key: str
    label: int
    group: int
    parts: dict[int, Part]


@dataclass(frozen=True)
class Inventory:
    """The videos found, sorted by path, and where disk and lists disagree.

    Attributes:
        videos: every video file in the class folders.
        missing: listed videos that are not on disk.
        unlisted: videos on disk that no list names.
    """

    videos: tuple[Video, ...]
    missing: tuple[str, ...]
    unlisted: tuple[str, ...]


def take_inventory(root: str | Path, lists: SplitLists) -> Inventory:
    """Search the class folders of `root` and match what is there to the lists.

    Names are matched exactly first, then without regard to case, because copies of the data set differ in it.

    Raises:
        InputError: no such folder, no class folder or no video in it, or two videos that would share a key.
    """
    root = Path(root)
    found = _find_files(root, lists.classes)
    exact = {relative for relative, _, _ in found}
    folded = {relative.casefold(): relative for relative, _, _ in found}
    parts: dict[str, dict[int, Part]] = {}
    missing = []
    for name, membership in lists.listed.items():
        on_disk = name if name in exact else folded.get(name.casefold())
        if on_disk is None:
            missing.append(name)
        else:
            parts.setdefault(on_disk, {}).update(membership)
    videos = tuple(
        Video(str(path), relative, _UNSAFE.sub("_", path.stem), label, _group(path.stem), parts.get(relative, {}))
        for relative, label, path in found
    )
    _refuse_shared_keys(videos)
    unlisted = tuple(video.relative for video in videos if not video.parts)
    return Inventory(videos, tuple(sorted(missing)), unlisted)


def _find_files(root: Path, classes: tuple[str, ...]) -> list[tuple[str, int, Path]]:
    """Return (relative name, label, path) of every video in a class folder, sorted by name."""
    if not root.is_dir():
        raise InputError(f"no folder of videos at {root}", remedy="give the folder that holds the class folders")
    labels = {name.casefold(): label for label, name in enumerate(classes)}
    folders = [entry for entry in root.iterdir() if entry.name.casefold() in labels and entry.is_dir()]
    if not folders:
        nested = root / "UCF-101"
        remedy = f"give {nested}" if nested.is_dir() else "give the folder that holds the class folders"
        raise InputError(f"{root} holds no folder named after a class of classInd.txt", remedy=remedy)
    found = [
        (f"{folder.name}/{path.name}", labels[folder.name.casefold()], path)
        for folder in folders
        for path in folder.iterdir()
        # A leading dot marks what file managers leave behind ("._v_Archery_g01_c01.avi"), not a video.
        if path.suffix.lower() in _SUFFIXES and not path.name.startswith(".")
    ]
    if not found:
        raise InputError(
            f"no video file in the {len(folders)} class folders of {root}", remedy="unpack the videos there first"
        )
    return sorted(found)


def _group(stem: str) -> int:
    match = _GROUP.search(stem)
    return int(match[1]) if match else -1


def _refuse_shared_keys(videos: tuple[Video, ...]) -> None:
    owners: dict[str, Video] = {}
    for video in videos:
        if len(video.key) > _LONGEST_KEY:
            raise InputError(
                f"the name of {video.relative} has more than {_LONGEST_KEY} characters", remedy="shorten the name"
            )
        other = owners.setdefault(video.key, video)
        if other is not video:
            raise InputError(
                f"{other.relative} and {video.relative} would share the key {video.key!r}",
                remedy="rename one of them (in the lists too)",
            )
