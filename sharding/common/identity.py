"""What tells a file from a later one of the same name, without reading it: on disk and behind URLs."""

import hashlib
import stat
from collections.abc import Iterable
from pathlib import Path

from pclkd.sharding.common import storage

__all__ = ["identify", "version_of"]

# What object stores say of a version, the surest first.
_VERSIONS = ("ETag", "etag", "md5Hash", "mtime", "LastModified", "last_modified", "created")


def identify(paths: Iterable[str]) -> list[str]:
    """Return for each path or URL its size and version (ETag or time of the last change).

    An empty string stands for what is neither a regular file nor a folder of some, whose URL ends in "/", and for what
    a web server gives. Behind other URLs a folder is listed once.

    Raises:
        InputError: a store cannot be reached or refuses.
    """
    listings: dict[str, dict[str, str]] = {}
    found = []
    for path in paths:
        if not storage.is_remote(path):
            found.append(_local(path))
            continue
        if path.startswith(("http://", "https://")):  # no web server lists versions, and many list nothing
            found.append("")
            continue
        folder, _, name = path.rpartition("/")
        if folder not in listings:
            listings[folder] = {entry: _version(about) for entry, about in storage.listing(folder).items()}
        found.append(listings[folder].get(name, "") if name else _of_folder(listings[folder]))
    return found


def version_of(url: str) -> str:
    """Return what `identify` tells of an object behind a URL, without listing its folder; "" where there is none.

    Raises:
        InputError: the store cannot be reached or refuses.
    """
    try:
        return _version(storage.about(url))
    except FileNotFoundError:
        return ""


def _local(path: str) -> str:
    try:
        about = storage.local_path(path).stat()
    except OSError:
        return ""
    if stat.S_ISDIR(about.st_mode):
        return _of_folder({file.name: _local(str(file)) for file in Path(path).iterdir()})
    return f"{about.st_size}:{about.st_mtime_ns}" if stat.S_ISREG(about.st_mode) else ""


def _of_folder(identities: dict[str, str]) -> str:
    """Return the bytes of all files of a folder, and what changes with any of them."""
    files = sorted(item for item in identities.items() if item[1])
    size = sum(int(identity.partition(":")[0]) for _, identity in files)
    return f"{size}:{hashlib.sha256(repr(files).encode()).hexdigest()}" if files else ""


def _version(about: dict[str, object]) -> str:
    version = next((about[name] for name in _VERSIONS if about.get(name)), None)
    return f"{about['size']}:{version}" if version else ""
