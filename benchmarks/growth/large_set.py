"""A shard set as large as one likes, made of a small one: its videos over and over, under new names.

One tar holds a shard's worth of the small set's samples, byte for byte; every shard of the large set is a hard link to
it. The index columns are written in full, a row a video and a row a frame: nothing about them is smaller or sparser
than it would be with as many different videos.
"""

import dataclasses
import hashlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pclkd.sharding.common.errors import InputError
from pclkd.sharding.common.files import sha256_of
from pclkd.sharding.packing.deal import shard_name
from pclkd.sharding.shards.columns import COLUMNS
from pclkd.sharding.shards.index import ShardIndex
from pclkd.sharding.shards.manifest import ShardRecord, SplitCount

__all__ = ["grow_shard_set"]

_END = bytes(1024)  # of a tar
_HEADER = 512  # bytes before a sample's frames
_BYTES_A_FRAME = 16
_BYTES_A_VIDEO = 64
_LINKS = 30_000  # hard links a file; file systems allow 65,000 (ext4) or more
Block = dict[str, NDArray[Any]]


def grow_shard_set(small: ShardIndex, out: Path, videos: int, videos_per_shard: int = 128) -> None:
    """Write a shard set of `videos` videos to the new folder `out`.

    Args:
        small: a local shard set; its videos are repeated in their order.
        out: see above.
        videos: of the large set.
        videos_per_shard: as `shard-ucf101 pack` has it for large sets.

    Raises:
        InputError: too little room on the disk.
    """
    block = _block(small, min(videos_per_shard, videos))
    size = int(block["sample_offset"][-1] + block["sample_size"][-1]) - _HEADER + len(_END)
    frames_a_block = int(block["sample_frames"][-1])
    needed = size + videos * _BYTES_A_VIDEO + videos * frames_a_block // videos_per_shard * _BYTES_A_FRAME
    (out / "index").mkdir(parents=True)
    room = shutil.disk_usage(out).free
    if room < 1.1 * needed:
        raise InputError(
            f"{videos} videos need {needed / 2**30:.1f} GiB in {out}, and {room / 2**30:.1f} are free",
            remedy="name another folder with --scratch, or fewer --videos",
        )
    shards = -(-videos // videos_per_shard)
    sha256 = _write_shards(small, out, min(videos_per_shard, videos), shards)
    records = [
        ShardRecord(shard_name(number), size, min(videos_per_shard, videos - number * videos_per_shard), sha256)
        for number in range(shards)
    ]
    frames = _write_columns(out, block, videos)
    split = np.load(out / "index" / "sample_split.npy", mmap_mode="r")
    dataclasses.replace(
        small.manifest,
        splits={
            number: SplitCount(int((split[:, i] == 1).sum()), int((split[:, i] == 2).sum()))
            for i, number in enumerate(small.manifest.splits)
        },
        videos=videos,
        frames=frames,
        shards=tuple(records),
        columns={name: sha256_of(out / "index" / f"{name}.npy") for name in COLUMNS},
        quarantined=(),
        missing=(),
        unlisted=(),
    ).signed().write(out)


def _block(small: ShardIndex, videos: int) -> Block:
    """The columns of one shard that holds the first `videos` videos of the repeated small set."""
    rows = np.arange(videos) % len(small)
    starts = np.concatenate([[0], np.cumsum(small.sample_size[rows])])
    block: Block = {
        name: getattr(small, name)[rows]
        for name in COLUMNS
        if name.startswith("sample_") and name not in {"sample_key", "sample_shard", "sample_frames"}
    }
    block["sample_offset"] = starts[:-1] + _HEADER
    frames = [slice(int(small.sample_frames[row]), int(small.sample_frames[row + 1])) for row in rows]
    block["sample_frames"] = np.concatenate([[0], np.cumsum([part.stop - part.start for part in frames])])
    moved = block["sample_offset"] - small.sample_offset[rows]
    block["frame_offset"] = np.concatenate(
        [small.frame_offset[part] + move for part, move in zip(frames, moved, strict=True)]
    )
    for name in ("frame_length", "frame_crc32"):
        block[name] = np.concatenate([getattr(small, name)[part] for part in frames])
    return block


def _write_shards(small: ShardIndex, out: Path, videos: int, shards: int) -> str:
    """Write the tar and link it `shards` times; its SHA-256."""
    first = out / shard_name(0)
    digest = hashlib.sha256()
    with first.open("wb") as file:
        for row in (np.arange(videos) % len(small)).tolist():
            with Path(small.shard_url(int(small.sample_shard[row]))).open("rb") as tar:
                tar.seek(int(small.sample_offset[row]) - _HEADER)
                stretch = tar.read(int(small.sample_size[row]))
            file.write(stretch)
            digest.update(stretch)
        file.write(_END)
        digest.update(_END)
    for number in range(1, shards):
        if number % _LINKS == 0:
            shutil.copyfile(first, out / shard_name(number))
        else:
            os.link(out / shard_name(number - number % _LINKS), out / shard_name(number))
    return digest.hexdigest()


def _write_columns(out: Path, block: Block, videos: int) -> int:
    """Write all columns, block after block; how many frames there are."""
    size = len(block["sample_offset"])
    whole, rest = divmod(videos, size)
    frames_a_block = int(block["sample_frames"][-1])
    frames = whole * frames_a_block + int(block["sample_frames"][rest])
    for name, dtype in COLUMNS.items():
        rows = frames if name.startswith("frame_") else videos + (name == "sample_frames")
        kind = np.dtype("S13") if name == "sample_key" else np.dtype(dtype)
        shape = (rows, *(block[name].shape[1:] if name in block else ()))
        with (out / "index" / f"{name}.npy").open("wb") as file:
            np.lib.format.write_array_header_1_0(
                file, {"descr": np.lib.format.dtype_to_descr(kind), "fortran_order": False, "shape": shape}
            )
            left = rows
            for part in _parts(name, block, size, frames_a_block):
                np.ascontiguousarray(part[:left].astype(kind)).tofile(file)
                left -= min(left, len(part))
                if not left:
                    break
    return frames


def _parts(name: str, block: Block, size: int, frames_a_block: int) -> Iterator[NDArray[Any]]:
    """The rows of a column, a shard after a shard, without end."""
    number = 0
    while True:
        if name == "sample_key":
            yield np.array([f"video-{video:07d}" for video in range(number * size, (number + 1) * size)], "S13")
        elif name == "sample_shard":
            yield np.full(size, number)
        elif name == "sample_frames":
            yield block[name][:-1] + number * frames_a_block
        else:
            yield block[name]
        number += 1
