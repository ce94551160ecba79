"""Does the file system keep what runs and shard sets rest on: locks, atomic renames, synced files, room, speed."""

import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from pclkd.sharding.common.errors import InputError
from pclkd.sharding.common.files import write_bytes
from pclkd.sharding.packing.lock import locked
from pclkd.training.doctor.examination import Machine, Outcome, judged
from pclkd.training.study.locks import Locks

__all__ = ["check_locks", "check_rename", "check_space", "check_sync", "check_write_speed", "study_lock"]

Hold = Callable[[Path], AbstractContextManager[object]]
Write = Callable[[Path, bytes], None]

_OTHER_PLACE = "choose an --out on another file system"
_SYNCS = 10
_SLOW_SYNC_S = 0.1
_GIB = 2**30
_LEAST_GIB, _USUAL_GIB = 1, 25  # checkpoints of some runs; UCF101's shards
_MIB = 2**20
_LEAST_SPEED, _USUAL_SPEED = 5, 50  # MiB/s


@contextmanager
def study_lock(folder: Path) -> Iterator[None]:
    """Hold a lock of a study.

    Raises:
        InputError: somebody holds it.
    """
    release = Locks(folder).claim("doctor")
    if release is None:
        raise InputError(f"{folder} is locked", remedy="wait for its holder")
    try:
        yield
    finally:
        release()


def _packing_lock(folder: Path) -> AbstractContextManager[object]:
    return locked(str(folder))


def check_locks(machine: Machine, packing: Hold = _packing_lock, study: Hold = study_lock) -> Outcome:
    """Whoever comes second is refused, by the locks of packers and of studies, and gets it when the first has gone."""
    kept = []
    for kind, hold in (("packing", packing), ("study", study)):
        folder = machine.scratch / f"{kind}-lock"
        folder.mkdir(exist_ok=True)
        with hold(folder):
            try:
                with hold(folder):
                    pass
            except InputError:
                kept.append(kind)
        with hold(folder):
            pass
    missing = [kind for kind in ("packing", "study") if kind not in kept]
    figure = f"two at once got the lock of: {', '.join(missing)}" if missing else "who comes second is refused"
    return judged(figure, fails=bool(missing), remedy=f"{_OTHER_PLACE}, or never start two at once here")


def check_rename(machine: Machine, write: Write = write_bytes) -> Outcome:
    """A file that is written anew is the old one, whole, until it is the new one, for who has it open too."""
    path, old, new = machine.scratch / "renamed", b"old" * 5000, b"new" * 9000
    write(path, old)
    with path.open("rb") as reader:
        start = reader.read(3)
        write(path, new)
        seen = start + reader.read()
    left = [other.name for other in path.parent.glob("renamed*.part")]
    fails = seen != old or path.read_bytes() != new or bool(left)
    figure = "a reader saw a file that was half replaced" if fails else "files are replaced whole"
    return judged(figure, fails=fails, remedy=_OTHER_PLACE)


def check_sync(machine: Machine, write: Write = write_bytes) -> Outcome:
    """Small files, each synced with its folder as every checkpoint and shard is."""
    took = []
    for number in range(_SYNCS):
        began = time.perf_counter()
        write(machine.scratch / f"synced-{number}", os.urandom(4096))
        took.append(time.perf_counter() - began)
    median = sorted(took)[_SYNCS // 2]
    figure = f"{1000 * median:.1f} ms a synced file, at most {1000 * max(took):.0f}"
    return judged(figure, warns=median > _SLOW_SYNC_S, remedy=f"{_OTHER_PLACE}, or save less often")


def check_space(machine: Machine, free: int | None = None) -> Outcome:
    """Room in bytes."""
    gib = (shutil.disk_usage(machine.folder).free if free is None else free) / _GIB
    remedy = f"free some, or {_OTHER_PLACE}: UCF101's shards take 23 GB, a run 0.1 to 2"
    return judged(f"{gib:.1f} GiB free", fails=gib < _LEAST_GIB, warns=gib < _USUAL_GIB, remedy=remedy)


def check_write_speed(machine: Machine, write: Write = write_bytes, size: int = 8 * _MIB) -> Outcome:
    """MiB/s of one synced file; of a larger one where the first took no time."""
    path, speed = machine.scratch / "large", 0.0
    for number in (size, 8 * size):
        content = os.urandom(number)
        began = time.perf_counter()
        write(path, content)
        took = time.perf_counter() - began
        path.unlink()
        speed = number / _MIB / took
        if took > 0.5:
            break
    return judged(
        f"{speed:.0f} MiB/s",
        fails=speed < _LEAST_SPEED,
        warns=speed < _USUAL_SPEED,
        remedy=f"{_OTHER_PLACE}: a checkpoint has 10 to 500 MB, and the run waits for the one before",
    )
