"""The index columns: one `.npy` file each, memory-mapped by readers.

A column per sample or per frame, rather than a record per sample, because a loader touches few of them and a plain
array slices fastest.
"""

import hashlib
import io
import mmap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pclkd.sharding.common import storage
from pclkd.sharding.common.errors import InputError
from pclkd.sharding.common.files import no_device, sha256_of

__all__ = [
    "COLUMNS",
    "EXTRA_COLUMNS",
    "Column",
    "check_columns",
    "column_sums",
    "column_url",
    "fetch_column",
    "let_go",
    "map_column",
    "write_columns",
]

Column = npt.NDArray[Any]

# Name -> dtype. `sample_key` is fixed-width bytes whose width the longest key decides.
COLUMNS: Mapping[str, str] = {
    "sample_key": "S",
    "sample_shard": "<i4",  # position in the manifest's list of shards
    "sample_offset": "<i8",  # byte position of the frames in the tar
    "sample_frames": "<i8",  # [S + 1]: sample s owns the frame rows [s] to [s + 1]
    "sample_label": "<i4",
    "sample_group": "<i4",  # -1: the file name tells none
    "sample_split": "|u1",  # [S, splits]: 0 in none, 1 train, 2 test
    "sample_size": "<i8",  # bytes of its whole stretch of the tar, which begins a header before sample_offset
    "sample_crc32": "<u4",  # over that stretch
    "sample_height": "<i4",  # of the stored frames, pixels
    "sample_width": "<i4",
    "frame_offset": "<i8",  # byte position in the tar
    "frame_length": "<i4",
    "frame_crc32": "<u4",
}
# Columns that a set has only where they tell something; a reader that does not know them misses nothing else.
EXTRA_COLUMNS: Mapping[str, str] = {
    "sample_salvaged": "|u1",  # 1: the sound run of a damaged video; its notes tell which frames
    "frame_time": "<f8",  # seconds from the video's first frame; only where a video's frames are not evenly spaced
}
_DTYPES = {**COLUMNS, **EXTRA_COLUMNS}
_PACK_AGAIN = "pack the videos again with 'shard-ucf101 pack'"


def column_url(root: str | Path, name: str) -> str:
    """Return where a column lies."""
    return storage.join(root, "index", f"{name}.npy")


def write_columns(root: str | Path, columns: Mapping[str, Column]) -> dict[str, str]:
    """Write the columns to `root/index` (folder or URL); return the SHA-256 of each file as hex."""
    sums = {}
    for name, column in columns.items():
        content = _content(name, column)
        sums[name] = hashlib.sha256(content).hexdigest()
        storage.write_bytes(column_url(root, name), content)
    return sums


def column_sums(columns: Mapping[str, Column]) -> dict[str, str]:
    """Return what `write_columns` would, without writing."""
    return {name: hashlib.sha256(_content(name, column)).hexdigest() for name, column in columns.items()}


def check_columns(root: str | Path, sums: Mapping[str, str]) -> None:
    """Compare the files with their SHA-256.

    Raises:
        InputError: one is damaged or missing.
    """
    for name in {**COLUMNS, **sums}:
        url = column_url(root, name)
        try:
            with storage.local_copy(url) as path:
                found = sha256_of(path)
        except FileNotFoundError:
            raise InputError(f"no index column {url}", remedy=_PACK_AGAIN) from None
        if found != sums.get(name):
            raise InputError(f"index column {url} differs from its SHA-256 in the manifest", remedy=_PACK_AGAIN)


def _content(name: str, column: Column) -> bytes:
    buffer = io.BytesIO()
    dtype = _DTYPES[name]
    np.save(buffer, column if dtype == "S" else column.astype(dtype, copy=False), allow_pickle=False)
    return buffer.getvalue()


def map_column(root: str | Path, name: str, sha256: str | None) -> Column:
    """Memory-map one column as a plain array (np.memmap slices five times slower).

    A column behind a URL is first copied into the local cache, see `fetch_column`.

    Raises:
        InputError: the file is missing or not the column it should be.
    """
    url = column_url(root, name)
    try:
        path = fetch_column(url, sha256) if storage.is_remote(root) else no_device(storage.local_path(url))
        mapped = np.lib.format.open_memmap(path, mode="r")  # np.load would take archives and pickles as well
    except FileNotFoundError:
        raise InputError(f"no index column {url}", remedy=_PACK_AGAIN) from None
    except Exception as error:  # numpy's reader raises whatever a damaged header leads it to
        if isinstance(error, InputError) or (isinstance(error, OSError) and not isinstance(error, IsADirectoryError)):
            raise
        raise InputError(f"index column {url} is damaged ({error})", remedy=_PACK_AGAIN) from None
    expected = _DTYPES[name]
    if mapped.dtype.kind != "S" if expected == "S" else mapped.dtype != np.dtype(expected):
        raise InputError(f"index column {url} holds {mapped.dtype}, not {expected}", remedy=_PACK_AGAIN)
    return np.asarray(mapped)


def let_go(column: Column) -> None:
    """Give back the memory of a mapped column that was looked through; what is needed again is read again."""
    mapped = column.base
    if isinstance(mapped, np.memmap) and (pages := mapped._mmap) is not None:  # type: ignore[attr-defined]
        pages.madvise(mmap.MADV_DONTNEED)


def fetch_column(url: str, sha256: str | None) -> Path:
    """Return a local copy of a remote column, from this machine's `cache_folder`.

    Copies are named by their SHA-256, so all processes of a machine share them. One that is no longer what its name
    tells, after a power cut or with a flipped bit, is fetched again.

    Raises:
        FileNotFoundError: there is no such column.
        InputError: the column differs from `sha256`.
    """
    if not sha256:
        raise FileNotFoundError(url)
    cache = storage.cache_folder() / "columns"
    path = cache / f"{sha256}.npy"
    # Always hashed, seconds for the 2.8 GB of a million videos: no length and no date tells of a flipped bit, labels
    # and times are under no other sum, and so no copy need be synced.
    if not path.exists() or sha256_of(path) != sha256:
        cache.mkdir(parents=True, exist_ok=True)
        with storage.local_copy(url, cache) as copy:
            if sha256_of(copy) != sha256:
                raise InputError(f"index column {url} differs from its SHA-256 in the manifest", remedy=_PACK_AGAIN)
            copy.replace(path)
    return path
