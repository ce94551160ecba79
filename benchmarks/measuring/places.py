"""Where what is measured on lies, as processes with other working directories find it."""

from pathlib import Path

from pclkd.sharding.common import storage
from pclkd.sharding.common.errors import InputError

__all__ = ["absolute", "local"]


def absolute(url: str | Path) -> str:
    """A URL as it is, a path from the root on."""
    return str(url) if storage.is_remote(url) else str(storage.local_path(url).resolve())


def local(url: str | Path, what: str) -> str | Path:
    """Refuse a URL where `what` reads files.

    Raises:
        InputError: it is one.
    """
    if storage.is_remote(url):
        raise InputError(f"{what} reads files, and {url} is none", remedy="give a copy on this machine")
    return url
