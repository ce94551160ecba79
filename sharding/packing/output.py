"""The files of a shard set in its output folder: which are ours, and taking them away. What is not ours stays."""

import os
import re
import tempfile
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path

from pclkd.sharding.common import storage
from pclkd.sharding.packing.task import SCRATCH_PREFIX, WORK_FOLDER
from pclkd.sharding.shards.manifest import MANIFEST_NAME

__all__ = ["any_record", "clear_unfinished", "clear_work", "prepare", "remove_all", "remove_shards"]

# Names that only this program gives.
_SHARD = re.compile(r"shard-\d{6}\.(tar|idx)(\.part)?")
_COLUMN = re.compile(r"[a-z0-9_]+\.npy(\.part)?")
_RECORD = re.compile(r"shard-\d{6}\.json")
_WORK = re.compile(r"(plan|shard-\d{6})\.json(\.part)?|shard-\d{6}\.tar\..+\.part")


def prepare(out: str) -> None:
    """Make the folders, and take away what a killed run had not finished."""
    if not storage.is_remote(out):
        for name in ("index", WORK_FOLDER):
            (storage.local_path(out) / name).mkdir(exist_ok=True)
    clear_unfinished(out)


def clear_unfinished(out: str) -> None:
    """Take away all unfinished files."""
    for folder in (out, storage.join(out, "index"), storage.join(out, WORK_FOLDER)):
        for name in storage.sizes(folder):
            if name.endswith(".part") and any(ours.fullmatch(name) for ours in (_SHARD, _COLUMN, _WORK)):
                storage.remove(storage.join(folder, name))
    storage.remove(storage.join(out, f"{MANIFEST_NAME}.part"))
    for scratch in Path(tempfile.gettempdir()).glob(f"{SCRATCH_PREFIX}*"):
        if not _lives(scratch.name.removeprefix(SCRATCH_PREFIX).partition("-")[0]):
            _remove_scratch(scratch)


def any_record(out: str) -> bool:
    """Tell whether any shard of an unfinished set is finished."""
    return any(_RECORD.fullmatch(name) for name in storage.sizes(storage.join(out, WORK_FOLDER)))


def remove_shards(out: str, but: Collection[str]) -> None:
    """Take away shards and their indexes, but for those of the tars named in `but`."""
    stems = {Path(name).stem for name in but}
    for name in storage.sizes(out):
        if _SHARD.fullmatch(name) and name.partition(".")[0] not in stems:
            storage.remove(storage.join(out, name))


def clear_work(out: str, run: str) -> None:
    """Take away plan, records and unfinished files."""
    _remove_matching(storage.join(out, WORK_FOLDER), _WORK)
    _remove_scratch(Path(tempfile.gettempdir()) / f"{SCRATCH_PREFIX}{run}")


def remove_all(out: str, run: str) -> None:
    """Take away everything of a set, the manifest first: no reader may take the rest for a whole set."""
    storage.remove(storage.join(out, MANIFEST_NAME))
    remove_shards(out, ())
    _remove_matching(storage.join(out, "index"), _COLUMN)
    clear_work(out, run)


def _remove_matching(folder: str, ours: re.Pattern[str]) -> None:
    for name in storage.sizes(folder):
        if ours.fullmatch(name):
            storage.remove(storage.join(folder, name))
    if not storage.is_remote(folder):
        with suppress(OSError):
            storage.local_path(folder).rmdir()


def _remove_scratch(folder: Path) -> None:
    if folder.is_dir():
        for part in folder.glob("shard-*.part"):
            part.unlink(missing_ok=True)
        with suppress(OSError):
            folder.rmdir()


def _lives(pid: str) -> bool:
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return False
    except (ValueError, PermissionError):
        return True
    return True
