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
from pclkd.sharding.common.frame_names import frames_among
from pclkd.sharding.common.shard_names import SHARD_FILE

__all__ = ["FoundVideo", "Listing", "bare_name", "count_suffixes", "find_videos", "is_video_name", "told_suffixes"]


@dataclass(frozen=True, order=True)
class FoundVideo:
    """A video: its name below the folder that was searched (`Class/file.avi`, as on disk), and path or URL.

    Both end in "/" where the video is a folder of frames.
    """

    name: str
    path: str

    @property
    def folders(self) -> tuple[str, ...]:
        """The folders of its name, from the top."""
        return tuple(self.name.removesuffix("/").split("/")[:-1])

    @property
    def stem(self) -> str:
        """Its name without folders and suffix."""
        return bare_name(self.name).rpartition("/")[2]


@dataclass(frozen=True)
class Listing:
    """What lies below a folder, each sorted: its videos, and the names of all other files that are not hidden.

    Shards and their index are none of these: a set that is packed below its videos would change what it is made from.
    """

    videos: tuple[FoundVideo, ...]
    others: tuple[str, ...] = ()


def is_video_name(name: str) -> bool:
    """Tell whether a file name is that of a video; a leading dot marks what file managers leave behind."""
    return not name.startswith(".") and PurePosixPath(name).suffix.lower() in VIDEO_SUFFIXES


def bare_name(name: str) -> str:
    """Return a name without the suffix of a video, if it has one, and without the "/" of a folder of frames."""
    name = name.removesuffix("/")
    return str(PurePosixPath(name).with_suffix("")) if is_video_name(name.rpartition("/")[2]) else name


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
    """Return the videos below a folder, files and folders of frames, and what else is there.

    Symbolic links are followed. A folder that several names lead to is gone through once below each folder of the
    first level, so links in a circle end; names without links come first. Hidden files and folders are passed over.

    Args:
        root: path or URL.

    Raises:
        InputError: no such folder, or it cannot be reached.
    """
    found = _find_remote(str(root)) if storage.is_remote(root) else _find_local(storage.local_path(root))
    videos, others = [], []
    framed: set[str] = set()
    sharded: set[str] = set()
    for prefix, folder, names in found:
        taken = [name for name in names if is_video_name(name)]
        rest = [name for name in names if not is_video_name(name)]
        videos += [FoundVideo(prefix + name, storage.join(folder, name)) for name in taken]
        if prefix and not taken and framed.isdisjoint(_above(prefix)) and (frames := frames_among(rest)):
            framed.add(prefix)
            videos.append(FoundVideo(prefix, f"{folder.rstrip('/')}/"))
            rest = sorted(set(rest).difference(name for _, name in frames))
        if any(SHARD_FILE.fullmatch(name) for name in rest):
            sharded |= {prefix, f"{prefix}index/"}
        if prefix not in sharded:
            others += [prefix + name for name in rest]
    return Listing(tuple(sorted(videos)), tuple(sorted(others)))


def _above(prefix: str) -> list[str]:
    """Return the folders that a folder lies in: `a/`, `a/b/` for `a/b/c/`."""
    parts = prefix.split("/")[:-2]
    return ["/".join(parts[: count + 1]) + "/" for count in range(len(parts))]


def _find_remote(root: str) -> Iterator[tuple[str, str, list[str]]]:
    """Yield each folder with its files: its name below the root, ending in "/", its URL, and the names in it."""
    names = storage.find(root)
    if not names:
        raise InputError(f"no files at {root}", remedy="give the URL of the folder that holds the videos")
    folders: dict[str, list[str]] = {}
    for name in names:
        if not any(part.startswith(".") for part in name.split("/")):
            folder, mark, file = name.rpartition("/")
            folders.setdefault(folder + mark, []).append(file)
    for prefix in sorted(folders):
        yield prefix, storage.join(root, prefix.removesuffix("/")) if prefix else root, folders[prefix]


def _find_local(root: Path) -> Iterator[tuple[str, str, list[str]]]:
    """Yield as `_find_remote`, each folder before those in it; a folder that is named like a video counts as a file."""
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
            entries = sorted((entry for entry in scan if not entry.name.startswith(".")), key=lambda entry: entry.name)
        names = []
        for entry in entries:
            if not is_video_name(entry.name) and _leads_to_folder(entry):
                visit = (entry.path, f"{prefix}{entry.name}/", seen if prefix else {top})
                (links if entry.is_symlink() else folders).append(visit)
            else:
                names.append(entry.name)
        yield prefix, folder, names


def _leads_to_folder(entry: "os.DirEntry[str]") -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def _identity(folder: Path) -> tuple[int, int]:
    about = folder.stat()
    return about.st_dev, about.st_ino
