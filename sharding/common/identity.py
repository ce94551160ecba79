"""What tells a source file from a later version of itself, without reading it."""

import stat
from collections.abc import Iterable

from pclkd.sharding.common import storage

__all__ = ["identify"]

# What object stores say of a version, the surest first.
_VERSIONS = ("ETag", "etag", "md5Hash", "mtime", "LastModified", "last_modified", "created")


def identify(paths: Iterable[str]) -> list[str]:
    """Return for each path or URL its size and version (ETag or time of the last change).

    An empty string stands for what cannot be told: no regular file. Behind URLs a folder is listed once.

    Raises:
        InputError: a store cannot be reached or refuses.
    """
    listings: dict[str, dict[str, str]] = {}
    found = []
    for path in paths:
        if not storage.is_remote(path):
            found.append(_local(path))
            continue
        folder, _, name = path.rpartition("/")
        if folder not in listings:
            listings[folder] = {entry: _told(about) for entry, about in storage.listing(folder).items()}
        found.append(listings[folder].get(name, ""))
    return found


def _local(path: str) -> str:
    try:
        about = storage.local_path(path).stat()
    except OSError:
        return ""
    return f"{about.st_size}:{about.st_mtime_ns}" if stat.S_ISREG(about.st_mode) else ""


def _told(about: dict[str, object]) -> str:
    version = next((about[name] for name in _VERSIONS if about.get(name)), None)
    return f"{about['size']}:{version}" if version else ""
