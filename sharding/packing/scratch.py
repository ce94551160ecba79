"""A folder for the temporary files of a run's processes: it goes with the run, or, left behind, when another comes."""

import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from hashlib import sha256
from pathlib import Path

from pclkd.sharding.packing.lock import started, this_machine

__all__ = ["scratch_folder"]

_PREFIX = "pclkd-pack-"
_SILENT_SECONDS = 86_400.0  # after which a folder of another machine, or container, is held for left behind


@contextmanager
def scratch_folder() -> Iterator[str]:
    """Give a new folder in the machine's one for temporary files, and take away what killed runs left there.

    Machines and containers may share that: the name of a folder tells where its process is looked for.
    """
    for left in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        if not _lives(left):
            shutil.rmtree(left, ignore_errors=True)  # another user's stays
    with tempfile.TemporaryDirectory(prefix=f"{_PREFIX}{_here()}-{os.getpid()}-", ignore_cleanup_errors=True) as folder:
        yield folder


def _here() -> str:
    return sha256(this_machine().encode()).hexdigest()[:8]


def _lives(folder: Path) -> bool:
    machine, _, rest = folder.name.removeprefix(_PREFIX).partition("-")
    pid = rest.partition("-")[0]
    if machine == _here() and pid.isdecimal():
        return bool(started(int(pid)))
    written = [0.0]
    for path in (folder, *folder.rglob("*")):
        with suppress(OSError):  # gone meanwhile
            written.append(path.stat().st_mtime)
    return time.time() - max(written) < _SILENT_SECONDS
