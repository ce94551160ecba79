"""The files of a shard set in its output folder: which are ours, and taking them away. What is not ours stays."""

import os
import re
import tempfile
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path

from pclkd.sharding.common import storage
from pclkd.sharding.common.errors import InputError
from pclkd.sharding.packing.journal import PLAN_NAME
from pclkd.sharding.packing.task import SCRATCH_PREFIX, WORK_FOLDER
from pclkd.sharding.shards.columns import COLUMNS, EXTRA_COLUMNS
from pclkd.sharding.shards.manifest import MANIFEST_NAME

__all__ = [
    "any_record",
    "clear_unfinished",
    "clear_work",
    "prepare",
    "refuse_foreign",
    "remove_all",
    "remove_shards",
    "set_aside",
]

# Names that this program gives. webdataset gives the first too: see `refuse_foreign`.
_SHARD = re.compile(r"shard-\d{6}\.(tar|idx)(\.part)?")
_COLUMN = re.compile(rf"({'|'.join((*COLUMNS, *EXTRA_COLUMNS))})\.npy(\.part)?")
_RECORD = re.compile(r"shard-\d{6}\.json")
_WORK = re.compile(r"(plan|shard-\d{6})\.json(\..*part)?|shard-\d{6}\.tar\..+\.part|shard-\d{6}\.tar\.old")
_UNFINISHED = (".part", ".old")


def refuse_foreign(out: str) -> None:
    """Refuse an output whose shards are another's: with neither manifest nor plan they are not ours to replace.

    Raises:
        InputError: there are some.
    """
    if any(storage.exists(storage.join(out, *name)) for name in ((MANIFEST_NAME,), (WORK_FOLDER, PLAN_NAME))):
        return
    if found := sorted(name for name in storage.sizes(out) if _SHARD.fullmatch(name)):
        raise InputError(
            f"{out} holds {len(found)} files that are named as shards, and neither {MANIFEST_NAME} nor a plan tells that "
            f"they are of a set that was packed here; the first is {found[0]}",
            remedy="give another place, or remove them",
        )


def prepare(out: str, names: Collection[str] | None = None) -> None:
    """Make the folders, and take away what a killed run had not finished; see `clear_unfinished`."""
    if not storage.is_remote(out):
        for name in ("index", WORK_FOLDER):
            (storage.local_path(out) / name).mkdir(exist_ok=True)
    clear_unfinished(out, names)


def clear_unfinished(out: str, names: Collection[str] | None = None) -> None:
    """Take away all unfinished files, or those of the shards of these names: others may be made at the same time."""
    stems = None if names is None else {Path(name).stem for name in names}
    for folder in (out, storage.join(out, "index"), storage.join(out, WORK_FOLDER)):
        for name in storage.sizes(folder):
            ours = name.endswith(_UNFINISHED) and any(known.fullmatch(name) for known in (_SHARD, _COLUMN, _WORK))
            if ours and (stems is None or name.partition(".")[0] in stems):
                storage.remove(storage.join(folder, name))
    if stems is None:
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


def set_aside(out: str, name: str) -> str:
    """Keep the tar of a shard that is made anew until the set is finished; return where it lies meanwhile.

    Only a local one: an object would have to be copied. It stays until another one takes its place.
    """
    if storage.is_remote(out):
        return storage.join(out, name)
    old = storage.local_path(storage.join(out, WORK_FOLDER, f"{name}.old"))
    with suppress(FileNotFoundError):  # a set that has lost it: then nothing can be taken over
        storage.local_path(storage.join(out, name)).replace(old)
    return str(old)


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
