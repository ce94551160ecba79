"""Files that appear under their final name only when they are whole, and the sum that tells whether they still are."""

import hashlib
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from pclkd.sharding.common.errors import InputError

__all__ = [
    "atomic_write",
    "check_place",
    "no_device",
    "parse_json",
    "read_at",
    "sha256_of",
    "sync_folder",
    "told_in",
    "write_bytes",
    "write_text",
]

_CHUNK = 1 << 20


@contextmanager
def atomic_write(path: Path) -> Iterator[BinaryIO]:
    """Open `<path>.part` for writing; on success sync it and rename it to `path`, on failure remove it.

    The folder is synced as well, so that the rename survives a power cut.
    """
    part = path.with_name(path.name + ".part")
    try:
        with part.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


@contextmanager
def told_in(folder: Path | str) -> Iterator[None]:
    """Name a folder in errors that tell no place: a full disk is told without it."""
    try:
        yield
    except OSError as error:
        if error.filename is None:
            error.filename = str(folder)
        raise


def check_place(folder: Path) -> None:
    """Refuse a folder that cannot be made, because a file stands at its place or above it.

    Raises:
        InputError: there is one.
    """
    there = next(parent for parent in (folder, *folder.absolute().parents) if parent.exists())
    if not there.is_dir():
        raise InputError(f"{folder} cannot be a folder: {there} is a file", remedy="give another folder")


def sync_folder(folder: Path) -> None:
    """Have a rename in a folder survive a power cut."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_bytes(path: Path, data: bytes) -> None:
    """Write `data` to `path`, whole or not at all."""
    with atomic_write(path) as file:
        file.write(data)


def write_text(path: Path, text: str) -> None:
    """Write `text` as UTF-8 to `path`, whole or not at all; bytes that are none are written as escapes."""
    write_bytes(path, text.encode(errors="backslashreplace"))


def parse_json(text: bytes | str) -> Any:
    """Return what JSON holds.

    Raises:
        ValueError: no JSON, or lists within lists without end.
    """
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def read_at(descriptor: int, start: int, size: int) -> bytes:
    """Read `size` bytes from byte `start` on, fewer only where the file ends: a call may give fewer than asked."""
    data = os.pread(descriptor, size, start)
    while len(data) < size and (more := os.pread(descriptor, size - len(data), start + len(data))):
        data += more
    return data


def no_device(path: Path) -> Path:
    """Return a path that can be read to its end: a pipe would be waited for, a device may have none.

    Raises:
        InputError: a pipe, a socket or a device is there, or a link to one.
    """
    if path.exists() and not (path.is_file() or path.is_dir()):
        raise InputError(f"{path} is no file but a pipe, a socket or a device", remedy="give a file, or remove it")
    return path


def sha256_of(path: Path, tick: Callable[[], None] = lambda: None) -> str:
    """Return the SHA-256 of a file as hex, calling `tick` after every MiB.

    Of a folder, over the name and SHA-256 of each file in it, in the order of the names.
    """
    found = hashlib.sha256()
    if path.is_dir():
        for inside in sorted(inside for inside in path.iterdir() if inside.is_file()):
            found.update(f"{sha256_of(inside, tick)} {inside.name}\n".encode("utf-8", "surrogateescape"))
        return found.hexdigest()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            found.update(chunk)
            tick()
    return found.hexdigest()
