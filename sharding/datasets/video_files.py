"""Which video files lie below a folder: on disk or wherever fsspec reaches.

Nothing is opened: a folder, a pipe or a broken link that is named like a video is listed as one, and ends in
quarantine when it is its turn.
"""

import os
from collections import Counter, deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from pclkd.sharding.common import storage
from pclkd.sharding.common.containers import VIDEO_SUFFIXES
from pclkd.sharding.common.errors import InputError

__all__ = ["FoundVideo", "Listing", "count_suffixes", "find_videos", "is_video_name", "told_suffixes"]


@dataclass(frozen=True, order=True)
class FoundVideo:
    """A video file: its name below the folder that was searched (`Class/file.avi`, as on disk), and path or URL."""

    name: str
    path: str

    @property
    def folders(self) -> tuple[str, ...]:
        """The folders of its name, from the top."""
        return tuple(self.name.split("/")[:-1])

    @property
    def stem(self) -> str:
        """Its name without folders and suffix."""
        return PurePosixPath(self.name).stem


@dataclass(frozen=True)
class Listing:
    """What lies below a folder, each sorted: its videos, and the names of all other files that are not hidden."""

    videos: tuple[FoundVideo, ...]
    others: tuple[str, ...] = ()


def is_video_name(name: str) -> bool:
    """Tell whether a file name is that of a video; a leading dot marks what file managers leave behind."""
    return not name.startswith(".") and PurePosixPath(name).suffix.lower() in VIDEO_SUFFIXES


def count_suffixes(names: Iterable[str]) -> dict[str, int]:
    """Count files by suffix, in lower case ("" without one), the most frequent first."""
    counts = Counter(PurePosixPath(name).suffix.lower() for name in names)
    return dict(sorted(counts.items(), key=lambda count: (-count[1], count[0])))


def told_suffixes(counts: dict[str, int], at_most: int = 8) -> str:
    """Return what `count_suffixes` gave as text: `12 .txt, 1 without a suffix`."""
    told = [f"{count} {suffix or 'without a suffix'}" for suffix, count in list(counts.items())[:at_most]]
    rest = sum(list(counts.values())[at_most:])
    return ", ".join(told + ([f"{rest} of other kinds"] if rest else []))


def find_videos(root: str | Path) -> Listing:
    """Return the videos below a folder, and what else is there.

    Symbolic links are followed. A folder that several names lead to is gone through once below each folder of the
    first level, so links in a circle end; names without links come first. Hidden files and folders are passed over.

    Args:
        root: path or URL.

    Raises:
        InputError: no such folder, or it cannot be reached.
    """
    found = _find_remote(str(root)) if storage.is_remote(root) else _find_local(storage.local_path(root))
    videos, others = [], []
    for file in found:
        if is_video_name(file.name.rpartition("/")[2]):
            videos.append(file)
        else:
            others.append(file.name)
    return Listing(tuple(sorted(videos)), tuple(sorted(others)))


def _find_remote(root: str) -> Iterator[FoundVideo]:
    names = storage.find(root)
    if not names:
        raise InputError(f"no files at {root}", remedy="give the URL of the folder that holds the videos")
    for name in names:
        if not any(part.startswith(".") for part in name.split("/")):
            yield FoundVideo(name, storage.join(root, name))


def _find_local(root: Path) -> Iterator[FoundVideo]:
    """Yield every file, and every folder that is named like a video."""
    if not root.is_dir():
        raise InputError(f"no folder of videos at {root}", remedy="give the folder that holds the videos")
    top = _identity(root)
    # Each folder to visit: path, name below the root, and what was visited below the same first folder. Links wait
    # until all else is visited, so that a folder goes by its own name.
    folders: deque[tuple[str, str, set[tuple[int, int]]]] = deque([(str(root), "", set())])
    links: deque[tuple[str, str, set[tuple[int, int]]]] = deque()
    while folders or links:
        folder, prefix, seen = folders.popleft() if folders else links.popleft()
        identity = _identity(Path(folder))
        if identity in seen:
            continue
        seen.add(identity)
        with os.scandir(folder) as scan:
            entries = sorted(scan, key=lambda entry: entry.name)
        for entry in entries:
            if entry.name.startswith("."):
                continue
            if not is_video_name(entry.name) and _leads_to_folder(entry):
                visit = (entry.path, f"{prefix}{entry.name}/", seen if prefix else {top})
                (links if entry.is_symlink() else folders).append(visit)
            else:
                yield FoundVideo(prefix + entry.name, entry.path)


def _leads_to_folder(entry: "os.DirEntry[str]") -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def _identity(folder: Path) -> tuple[int, int]:
    about = folder.stat()
    return about.st_dev, about.st_ino
