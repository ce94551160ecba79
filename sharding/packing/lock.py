"""One packer at a time for an output.

On a local file system the lock is the kernel's (flock on the folder): it goes with the process, however that ends, and
the workers hold it too, so that it is free only when nothing can write any more. An object store has no locks: there
a lock object names its owner and is renewed while the owner lives. It keeps honest runs apart; it is left behind by a
crash until it expires after a minute (at once, when the run is repeated on the same machine), and a run that is
suspended for longer than that is not protected.
"""

import fcntl
import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pclkd.sharding.common import storage
from pclkd.sharding.common.errors import InputError
from pclkd.sharding.packing.task import WORK_FOLDER

__all__ = ["locked"]

_PATIENCE_SECONDS = 1.0
_ORPHANS_SECONDS = 60.0  # workers of a killed run that were just being started need a moment to notice
_EXPIRES_SECONDS = 60.0
_RENEWED_SECONDS = 15.0
_LOCK_NAME = "lock.json"


@contextmanager
def locked(out: str) -> Iterator[tuple[int, ...]]:
    """Hold an output (folder or URL); give the file descriptors that workers must hold too.

    Raises:
        InputError: another run holds it, or it is no folder.
    """
    if storage.is_remote(out):
        with _lock_object(storage.join(out, WORK_FOLDER, _LOCK_NAME), out):
            yield ()
        return
    folder = storage.local_path(out)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise InputError(f"{out} is not a folder", remedy="give another place for the shards") from None
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        _take(handle, folder)
        yield (handle,)
    finally:
        os.close(handle)


def _take(handle: int, folder: Path) -> None:
    began = time.monotonic()
    while not _flock(handle):
        waited = time.monotonic() - began
        refused = waited > _ORPHANS_SECONDS or (waited > _PATIENCE_SECONDS and not _is_orphaned(handle))
        if refused:
            if _flock(handle):  # orphans that ended just now are no longer listed
                return
            raise InputError(f"another run is packing into {folder}", remedy="wait for it or give another folder")
        time.sleep(0.05)


def _flock(handle: int) -> bool:
    """Try to take the lock."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_orphaned(handle: int) -> bool:
    """Tell whether the process that took the lock is gone, so that only its workers can hold it still."""
    inode = f":{os.fstat(handle).st_ino}"
    for line in Path("/proc/locks").read_text().splitlines():
        fields = line.split()  # "1: FLOCK ADVISORY WRITE 4711 08:01:1234567 0 EOF"
        if fields[1] == "FLOCK" and fields[5].endswith(inode):
            return _stat(int(fields[4]))[:1] in ([], ["Z"])
    return False


@contextmanager
def _lock_object(url: str, out: str) -> Iterator[None]:
    owner = uuid.uuid4().hex
    other = _read(url)
    if other is not None and not _is_gone(other):
        left = other["expires"] - time.time()
        raise InputError(
            f"another run is packing into {out}: process {other['pid']} on {other['host']}",
            remedy=f"wait for it; if it crashed, its lock ends in {left:.0f} s",
        )
    _write(url, owner)
    # Of two that found the place free at the same time, the one that wrote last holds it.
    time.sleep(0.2)
    if (seen := _read(url)) is not None and seen["owner"] != owner:
        raise InputError(f"another run has begun to pack into {out}", remedy="wait for it or give another place")
    over = threading.Event()
    renewal = threading.Thread(target=_renew, args=(url, owner, over), daemon=True)
    renewal.start()
    try:
        yield
    finally:
        over.set()
        renewal.join()
        if (seen := _read(url)) is not None and seen["owner"] == owner:
            storage.remove(url)


def _renew(url: str, owner: str, over: threading.Event) -> None:
    while not over.wait(_RENEWED_SECONDS):
        try:
            _write(url, owner)
        except InputError:  # a store that is away for a moment; the packing itself will tell if it stays away
            continue


def _write(url: str, owner: str) -> None:
    content = {
        "owner": owner,
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "started": _started(os.getpid()),
        "expires": time.time() + _EXPIRES_SECONDS,
    }
    storage.write_bytes(url, json.dumps(content).encode())


def _read(url: str) -> dict[str, Any] | None:
    try:
        content: dict[str, Any] = json.loads(storage.read_bytes(url))
    except (FileNotFoundError, ValueError):
        return None
    return content


def _is_gone(other: dict[str, Any]) -> bool:
    here = other["host"] == socket.gethostname()
    return bool(other["expires"] < time.time()) or (here and _started(other["pid"]) != other["started"])


def _started(pid: int) -> str:
    """Return what tells a process from a later one of the same number, "" when there is none."""
    return "".join(_stat(pid)[19:20])


def _stat(pid: int) -> list[str]:
    """Return what /proc tells of a process, from its state on; nothing when there is none."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []
