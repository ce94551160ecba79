"""The index columns: one `.npy` file each, memory-mapped by readers.

A column per sample or per frame, rather than a record per sample, because a loader touches few of them and a plain
array slices fastest.
"""

import hashlib
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pclkd.sharding.atomic import write_bytes
from pclkd.sharding.errors import InputError

__all__ = ["COLUMNS", "Column", "column_path", "map_column", "write_columns"]

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
    "frame_offset": "<i8",  # byte position in the tar
    "frame_length": "<i4",
    "frame_crc32": "<u4",
}
_PACK_AGAIN = "pack the videos again with 'shard-ucf101 pack'"


def column_path(root: Path, name: str) -> Path:
    """Return where a column lies."""
    return root / "index" / f"{name}.npy"


def write_columns(root: Path, columns: Mapping[str, Column]) -> dict[str, str]:
    """Write the columns to `root/index`; return the SHA-256 of each file as hex."""
    sums = {}
    for name, dtype in COLUMNS.items():
        column = columns[name]
        buffer = io.BytesIO()
        np.save(buffer, column if dtype == "S" else column.astype(dtype, copy=False), allow_pickle=False)
        sums[name] = hashlib.sha256(buffer.getbuffer()).hexdigest()
        write_bytes(column_path(root, name), buffer.getvalue())
    return sums


def map_column(root: Path, name: str) -> Column:
    """Memory-map one column as a plain array (np.memmap slices five times slower).

    Raises:
        InputError: the file is missing or not the column it should be.
    """
    path = column_path(root, name)
    try:
        mapped = np.load(path, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError:
        raise InputError(f"no index column {path}", remedy=_PACK_AGAIN) from None
    except (ValueError, EOFError) as error:
        raise InputError(f"index column {path} is damaged ({error})", remedy=_PACK_AGAIN) from None
    expected = COLUMNS[name]
    if mapped.dtype.kind != "S" if expected == "S" else mapped.dtype != np.dtype(expected):
        raise InputError(f"index column {path} holds {mapped.dtype}, not {expected}", remedy=_PACK_AGAIN)
    return np.asarray(mapped)
