"""One packer at a time for an output: the same lock objects on a disk, on a shared file system and in an object store.

A run writes an object under a name that no other has, and then looks at the others': while one of those is alive, it
takes its own away and is refused. So nobody overwrites what another wrote, and all that is asked of the place is that
it lists what was written. `flock` is not used: NFS and Lustre may refuse it, or keep it to one host without a word.

On the holder's machine it is alive as long as its process, even suspended; a crash holds nobody up. Seen from other
machines it is alive until it has not renewed its object for a minute, by the clock of the place: no two machines'
clocks are compared. Who was silent for longer than that is told so before the set is finished.
"""

import json
import os
import random
import re
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from pclkd.sharding.common import storage
from pclkd.sharding.common.errors import InputError
from pclkd.sharding.packing.task import WORK_FOLDER

__all__ = ["locked", "started", "this_machine"]

_PATIENCE_SECONDS = 1.0  # of those that come at the same moment
_EXPIRES_SECONDS = 60.0
_RENEWED_SECONDS = 15.0
_LOCK = re.compile(r"lock-[0-9a-f]{32}\.json")


@contextmanager
def locked(out: str, part: str = "") -> Iterator[Callable[[], None]]:
    """Hold an output (folder or URL), or one part of it beside the holders of others.

    Gives a function that raises InputError when the lock was lost meanwhile.

    Raises:
        InputError: another run holds it, or it is no folder.
    """
    own = storage.join(out, WORK_FOLDER, f"lock-{uuid.uuid4().hex}.json")
    about = {
        "host": socket.gethostname(),
        "machine": this_machine(),
        "pid": os.getpid(),
        "started": started(os.getpid()),
        "part": part,
    }
    try:
        began = time.monotonic()
        while (other := _alive_beside(own, about)) is not None:
            storage.remove(own)
            if time.monotonic() - began > _PATIENCE_SECONDS:
                raise _refusal(out, *other)
            time.sleep(random.uniform(0.05, 0.25))
        over, lost = threading.Event(), threading.Event()
        renewal = threading.Thread(target=_renew, args=(own, about, over, lost), daemon=True)
        renewal.start()

        def check() -> None:
            if lost.is_set() or not storage.exists(own):
                raise InputError(
                    f"the lock of {out} was lost: this run gave no sign of life for {_EXPIRES_SECONDS:.0f} s",
                    remedy="run again to go on, finished shards are kept",
                )

        try:
            yield check
        finally:
            over.set()
            renewal.join()
    finally:
        with suppress(OSError):  # no folder, or one that others still use
            storage.remove(own)
            if not storage.is_remote(out):
                storage.local_path(own).parent.rmdir()


def _alive_beside(own: str, about: dict[str, Any]) -> tuple[dict[str, Any], float] | None:
    """Write a lock object; return another that is alive and in the way, with its age in seconds. Dead ones go."""
    _write(own, about)
    folder, _, name = own.rpartition("/")
    now = storage.modified(own)
    for found in storage.sizes(folder):
        url = storage.join(folder, found)
        if found == name or not _LOCK.fullmatch(found):
            continue
        try:
            age = now - storage.modified(url)
            other = _read(url)
        except FileNotFoundError:
            continue
        if not _is_alive(other, age):
            storage.remove(url)
        elif not (about["part"] and other.get("part")) or about["part"] == other["part"]:
            return other, age
    return None


def _is_alive(other: dict[str, Any], age: float) -> bool:
    if other.get("machine") == this_machine():
        return bool(started(other["pid"]) == other["started"])
    return age < _EXPIRES_SECONDS


def _refusal(out: str, other: dict[str, Any], age: float) -> InputError:
    part = f" part {other['part']}" if other.get("part") else ""
    holder = f"process {other.get('pid')} on {other.get('host')}"
    if other.get("machine") == this_machine():
        remedy = "wait for it or give another place"
    else:
        remedy = f"wait for it; if it crashed, its lock ends in {max(0.0, _EXPIRES_SECONDS - age):.0f} s"
    return InputError(f"another run is packing{part} into {out}: {holder}", remedy=remedy)


def _renew(own: str, about: dict[str, Any], over: threading.Event, lost: threading.Event) -> None:
    while not over.wait(_RENEWED_SECONDS):
        # A store may be away for a moment, whatever its client raises; the packing will tell if it stays away.
        with suppress(Exception):
            if not storage.exists(own):
                lost.set()
                return
            if storage.is_remote(own):
                _write(own, about)
            else:
                os.utime(own)


def _write(url: str, about: dict[str, Any]) -> None:
    content = json.dumps(about).encode()
    if storage.is_remote(url):
        storage.write_bytes(url, content)
        return
    path = storage.local_path(url)
    try:
        with suppress(FileNotFoundError):  # who ends at this moment takes the empty folder away
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    except (FileExistsError, NotADirectoryError):
        raise InputError(f"{path.parent.parent} is not a folder", remedy="give another place for the shards") from None
    except FileNotFoundError:  # a place without files, such as /proc
        raise InputError(
            f"{path.parent.parent} cannot be made a folder", remedy="give another place for the shards"
        ) from None


def _read(url: str) -> dict[str, Any]:
    try:
        content = json.loads(storage.read_bytes(url))
    except ValueError:
        return {}
    return content if isinstance(content, dict) else {}


def this_machine() -> str:
    """Return what tells where process numbers mean the same: containers of one host have their own."""
    told = [socket.gethostname()]
    with suppress(OSError):
        told.append(Path("/proc/sys/kernel/random/boot_id").read_text().strip())
        told.append(str(Path("/proc/self/ns/pid").readlink()))
    return " ".join(told)


def started(pid: int) -> str:
    """Return what tells a process from a later one of the same number, "" when it has ended."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if fields[0] in "ZX" else fields[19]
