"""Which video files lie below a folder: on disk or wherever fsspec reaches.

Nothing is opened: a folder, a pipe or a broken link that is named like a video is listed as one, and ends in
quarantine when it is its turn.
"""

import os
from collections import deque
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from pclkd.sharding.common import storage
from pclkd.sharding.common.errors import InputError

__all__ = ["SUFFIXES", "FoundVideo", "find_videos", "is_video_name", "stem"]

SUFFIXES = frozenset({".avi", ".mp4", ".mkv", ".webm", ".mov"})


@dataclass(frozen=True, order=True)
class FoundVideo:
    """A video file: its name below the folder that was searched (`Class/file.avi`, as on disk), and path or URL."""

    name: str
    path: str


def is_video_name(name: str) -> bool:
    """Tell whether a file name is that of a video; a leading dot marks what file managers leave behind."""
    return not name.startswith(".") and PurePosixPath(name).suffix.lower() in SUFFIXES


def stem(name: str) -> str:
    """Return a file name without its folders and without the suffix."""
    return PurePosixPath(name).stem


def find_videos(root: str | Path, *, levels: int | None = None) -> list[FoundVideo]:
    """Return the videos below a folder, sorted by name.

    Symbolic links are followed. A folder that several names lead to is gone through once below each folder of the
    first level, so links in a circle end; names without links come first. Hidden files and folders are passed over.

    Args:
        root: path or URL.
        levels: how many names deep to look: 2 finds `Class/file.avi`; None searches everything.

    Raises:
        InputError: no such folder, or it cannot be reached.
    """
    found = _find_remote(str(root)) if storage.is_remote(root) else _find_local(storage.local_path(root), levels)
    return sorted(video for video in found if levels is None or video.name.count("/") < levels)


def _find_remote(root: str) -> list[FoundVideo]:
    names = storage.find(root)
    if not names:
        raise InputError(f"no files at {root}", remedy="give the URL of the folder that holds the videos")
    return [
        FoundVideo(name, storage.join(root, name))
        for name in names
        if is_video_name(name.rpartition("/")[2]) and not any(part.startswith(".") for part in name.split("/"))
    ]


def _find_local(root: Path, levels: int | None) -> list[FoundVideo]:
    if not root.is_dir():
        raise InputError(f"no folder of videos at {root}", remedy="give the folder that holds the videos")
    found = []
    top = _identity(root)
    # Each folder to visit: path, name below the root, depth, and what was visited below the same first folder. Links
    # wait until all else is visited, so that a folder goes by its own name.
    folders: deque[tuple[str, str, int, set[tuple[int, int]]]] = deque([(str(root), "", 1, set())])
    links: deque[tuple[str, str, int, set[tuple[int, int]]]] = deque()
    while folders or links:
        folder, prefix, depth, seen = folders.popleft() if folders else links.popleft()
        identity = _identity(Path(folder))
        if identity in seen:
            continue
        seen.add(identity)
        with os.scandir(folder) as scan:
            entries = sorted(scan, key=lambda entry: entry.name)
        for entry in entries:
            if is_video_name(entry.name):
                found.append(FoundVideo(prefix + entry.name, entry.path))
            elif not entry.name.startswith(".") and (levels is None or depth < levels) and _leads_to_folder(entry):
                visit = (entry.path, f"{prefix}{entry.name}/", depth + 1, {top} if depth == 1 else seen)
                (links if entry.is_symlink() else folders).append(visit)
    return found


def _leads_to_folder(entry: "os.DirEntry[str]") -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def _identity(folder: Path) -> tuple[int, int]:
    about = folder.stat()
    return about.st_dev, about.st_ino
