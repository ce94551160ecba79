"""The files of a shard set in its output folder: which are ours, and taking them away. What is not ours stays."""

import re
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path

from pclkd.sharding.common import storage
from pclkd.sharding.common.errors import InputError
from pclkd.sharding.common.shard_names import SHARD_FILE
from pclkd.sharding.packing.journal import PLAN_NAME
from pclkd.sharding.packing.task import WORK_FOLDER
from pclkd.sharding.shards.columns import COLUMNS, EXTRA_COLUMNS
from pclkd.sharding.shards.manifest import MANIFEST_NAME

__all__ = [
    "clear_unfinished",
    "clear_work",
    "is_replacing",
    "prepare",
    "recorded_shards",
    "refuse_foreign",
    "remove_all",
    "remove_shards",
    "replaced_set",
    "set_aside",
]

# Names that this program gives. webdataset gives that of shards too: see `refuse_foreign`.
_COLUMN = re.compile(rf"({'|'.join((*COLUMNS, *EXTRA_COLUMNS))})\.npy(\.part)?")
_RECORD = re.compile(r"shard-\d{6}\.json")
_WORK = re.compile(r"(plan|shard-\d{6})\.json(\..*part)?|shard-\d{6}\.tar\..+\.part")
_REPLACED = "replaced"  # folder in `.pack` for a finished set until the one that replaces it is finished too


def refuse_foreign(out: str) -> None:
    """Refuse an output whose shards are another's: with neither manifest nor plan they are not ours to replace.

    Raises:
        InputError: there are some.
    """
    if any(storage.exists(storage.join(out, *name)) for name in ((MANIFEST_NAME,), (WORK_FOLDER, PLAN_NAME))):
        return
    if found := sorted(name for name in storage.sizes(out) if SHARD_FILE.fullmatch(name)):
        raise InputError(
            f"{out} holds {len(found)} files that are named as shards, and neither {MANIFEST_NAME} nor a plan tells "
            f"that they were packed here; the first is {found[0]}",
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
            ours = name.endswith(".part") and any(known.fullmatch(name) for known in (SHARD_FILE, _COLUMN, _WORK))
            if ours and (stems is None or name.partition(".")[0] in stems):
                storage.remove(storage.join(folder, name))
    if stems is None:
        storage.remove(storage.join(out, f"{MANIFEST_NAME}.part"))


def recorded_shards(out: str) -> set[str]:
    """Return the stems of the shards of an unfinished set that are finished."""
    names = storage.sizes(storage.join(out, WORK_FOLDER))
    return {name.removesuffix(".json") for name in names if _RECORD.fullmatch(name)}


def remove_shards(out: str, but: Collection[str]) -> None:
    """Take away shards and their indexes, but for those of the tars named in `but`."""
    stems = {Path(name).stem for name in but}
    for name in storage.sizes(out):
        if SHARD_FILE.fullmatch(name) and name.partition(".")[0] not in stems:
            storage.remove(storage.join(out, name))


def replaced_set(out: str) -> str:
    """Return where the finished set lies that is being replaced."""
    return storage.join(out, WORK_FOLDER, _REPLACED)


def is_replacing(out: str) -> bool:
    """Tell whether a finished set is being replaced: whatever ends the run, its frames need not be decoded again."""
    return storage.exists(storage.join(replaced_set(out), MANIFEST_NAME))


def set_aside(out: str) -> None:
    """Keep the finished set in `replaced_set` until the new one stands, but for the shards that have a record.

    Given again, it goes on where it was interrupted. Shards behind a URL would have to be copied: they stay where they
    are until others take their places.
    """
    old, kept = replaced_set(out), recorded_shards(out)
    if not storage.is_remote(out):
        (storage.local_path(old) / "index").mkdir(parents=True, exist_ok=True)
    # The manifest first: from here on no reader may take what is there for a whole set.
    if storage.exists(storage.join(out, MANIFEST_NAME)):
        _move(MANIFEST_NAME, out, old)
    for name in _set_files(out):
        if Path(name).name.partition(".")[0] not in kept and not storage.exists(storage.join(old, name)):
            _move(name, out, old)


def _put_back(out: str) -> bool:
    """Give a place back to the finished set that was set aside; tell whether there was one, on a local disk."""
    if storage.is_remote(out) or not is_replacing(out):
        return False
    for name in (*_set_files(replaced_set(out)), MANIFEST_NAME):
        _move(name, replaced_set(out), out)
    return True


def _set_files(root: str) -> list[str]:
    """Return the files of a set that can be moved, but for its manifest."""
    shards = [] if storage.is_remote(root) else [name for name in storage.sizes(root) if SHARD_FILE.fullmatch(name)]
    columns = [name for name in storage.sizes(storage.join(root, "index")) if _COLUMN.fullmatch(name)]
    return [*shards, *(f"index/{name}" for name in columns)]


def _move(name: str, source: str, target: str) -> None:
    url = storage.join(source, name)
    if not storage.is_remote(url):
        storage.local_path(url).replace(storage.local_path(target) / name)
        return
    with storage.local_copy(url) as copy:
        storage.put(copy, storage.join(target, name))
    storage.remove(url)


def clear_work(out: str) -> None:
    """Take away plan, records, unfinished files and the set that was replaced."""
    old = replaced_set(out)
    storage.remove(storage.join(old, MANIFEST_NAME))
    _remove_matching(storage.join(old, "index"), _COLUMN)
    _remove_matching(old, SHARD_FILE)
    _remove_matching(storage.join(out, WORK_FOLDER), _WORK)


def remove_all(out: str) -> None:
    """Take away everything of an unfinished set; a finished one that it was to replace comes back."""
    if not _put_back(out):
        storage.remove(storage.join(out, MANIFEST_NAME))  # first: no reader may take the rest for a whole set
        remove_shards(out, ())
        _remove_matching(storage.join(out, "index"), _COLUMN)
    clear_work(out)


def _remove_matching(folder: str, ours: re.Pattern[str]) -> None:
    for name in storage.sizes(folder):
        if ours.fullmatch(name):
            storage.remove(storage.join(folder, name))
    if not storage.is_remote(folder):
        with suppress(OSError):
            storage.local_path(folder).rmdir()
