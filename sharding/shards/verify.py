"""Re-read a shard set against its checksums and name what is damaged."""

import os
import tarfile
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pclkd.sharding.common import storage
from pclkd.sharding.common.errors import InputError, visible
from pclkd.sharding.common.files import read_at, sha256_of
from pclkd.sharding.common.processes import available_cpus
from pclkd.sharding.shards.columns import COLUMNS, column_url
from pclkd.sharding.shards.index import ShardIndex
from pclkd.sharding.shards.manifest import Manifest, ShardRecord
from pclkd.sharding.shards.tar import BLOCK, TarEntry, member_header, webdataset_index

__all__ = ["Damage", "VerifyReport", "verify_shards"]


@dataclass(frozen=True)
class Damage:
    """One thing that is wrong: in which file, of which video (None: of none in particular), and what."""

    file: str
    video: str | None
    problem: str

    def __str__(self) -> str:
        return f"{self.file}: {f'video {self.video}: ' if self.video else ''}{self.problem}"


@dataclass(frozen=True)
class VerifyReport:
    """What was read, and what was found to be damaged."""

    shards: int
    videos: int
    frames: int
    damage: tuple[Damage, ...]

    @property
    def damaged_videos(self) -> tuple[str, ...]:
        """Keys of the damaged videos, sorted, each once."""
        return tuple(sorted({damage.video for damage in self.damage if damage.video}))


def verify_shards(root: str | Path, *, step: Callable[[str], None] = lambda _: None) -> VerifyReport:
    """Read every byte of a shard set: columns, shards, tar structure, and each frame.

    Args:
        root: folder or URL of the shard set; shards behind a URL are copied one after another to be read.
        step: called with the name of each shard that is through.

    Raises:
        InputError: no finished shard set, or a manifest that cannot be read: then nothing can be checked.
    """
    root = str(root)
    manifest = Manifest.read(root)
    damage = list(_check_columns(root, manifest))
    if damage:
        # Without a sound index the videos cannot be told apart; the whole shards still can.
        return _report(manifest, damage + [found for shard in manifest.shards for found in _check_sum(root, shard)])
    try:
        index = ShardIndex.open(root, check_shards=False)
    except InputError as error:
        return _report(manifest, [Damage("index", None, str(error))])

    def check(number: int) -> list[Damage]:
        found = list(_check_shard(index, number))
        step(manifest.shards[number].name)
        return found

    # Hashing and checksums release the interpreter lock, so threads are enough.
    with ThreadPoolExecutor(available_cpus()) as pool:
        return _report(manifest, [found for shard in pool.map(check, range(len(manifest.shards))) for found in shard])


def _report(manifest: Manifest, damage: list[Damage]) -> VerifyReport:
    return VerifyReport(len(manifest.shards), manifest.videos, manifest.frames, tuple(damage))


def _check_columns(root: str, manifest: Manifest) -> Iterator[Damage]:
    for name in {**COLUMNS, **manifest.columns}:
        try:
            found = _sha256(column_url(root, name))
        except OSError as error:
            yield Damage(f"index/{name}.npy", None, f"cannot be read ({error.strerror or error})")
            continue
        if found != manifest.columns.get(name):
            yield Damage(f"index/{name}.npy", None, "differs from its SHA-256 in the manifest")


def _sha256(url: str) -> str:
    with storage.local_copy(url) as path:
        return sha256_of(path)


def _check_sum(root: str, shard: ShardRecord) -> Iterator[Damage]:
    try:
        found = _sha256(storage.join(root, shard.name))
    except OSError as error:
        yield Damage(shard.name, None, f"cannot be read ({error.strerror or error})")
        return
    if found != shard.sha256:
        yield Damage(shard.name, None, "differs from its SHA-256 in the manifest")


def _check_shard(index: ShardIndex, number: int) -> Iterator[Damage]:
    """Check one shard video by video; every byte of a video's stretch is under a CRC, so the blame is exact."""
    shard = index.manifest.shards[number]
    samples = [int(sample) for sample in np.flatnonzero(index.sample_shard == number)]
    try:
        with storage.local_copy(index.shard_url(number)) as path:
            yield from _check_file(index, shard, samples, path)
    except OSError as error:
        for sample in samples:
            yield Damage(shard.name, index.key(sample), f"the shard cannot be read ({error.strerror or error})")


def _check_file(index: ShardIndex, shard: ShardRecord, samples: list[int], path: Path) -> Iterator[Damage]:
    handle = os.open(path, os.O_RDONLY)
    entries: list[TarEntry] = []
    blamed = False
    try:
        for sample in samples:
            if problem := _check_video(index, sample, handle, entries):
                blamed = True
                yield Damage(shard.name, index.key(sample), problem)
        size = os.fstat(handle).st_size
    finally:
        os.close(handle)
    if size != shard.bytes:
        yield Damage(shard.name, None, f"has {size} bytes, expected {shard.bytes}")
    elif not blamed and sha256_of(path) != shard.sha256:
        yield Damage(shard.name, None, "differs from its SHA-256 in the manifest, outside of all videos")
    if not blamed:
        yield from _check_webdataset_index(index.root, Path(shard.name).with_suffix(".idx").name, entries)


def _check_video(index: ShardIndex, sample: int, handle: int, entries: list[TarEntry]) -> str | None:
    """Return what is wrong with a video's stretch of the tar, None if nothing; note its members in `entries`."""
    start = int(index.sample_offset[sample]) - BLOCK
    size = int(index.sample_size[sample])
    try:
        stretch = read_at(handle, start, size)
    except OSError as error:
        return f"cannot be read ({error.strerror or error})"
    if len(stretch) < size:
        return f"is cut off: {len(stretch)} of {size} bytes are there"
    frames = range(int(index.sample_frames[sample]), int(index.sample_frames[sample + 1]))
    bad = [row - frames.start for row in frames if not _frame_is_sound(index, row, stretch, start)]
    if bad:
        return f"{len(bad)} of {len(frames)} frames are damaged, the first is frame {bad[0]}"
    if zlib.crc32(stretch) != index.sample_crc32[sample]:
        return "its tar header or its JSON is damaged"
    try:
        members = list(_members(stretch, start))
    except tarfile.TarError as error:
        return f"its tar is none that a packer writes ({error})"
    for member in members:
        if member.name.partition(".")[0] != index.key(sample):
            return f"another file stands in its place: {visible(member.name)}"
    entries += members
    return None


def _frame_is_sound(index: ShardIndex, row: int, stretch: bytes, start: int) -> bool:
    offset = int(index.frame_offset[row]) - start
    frame = memoryview(stretch)[offset : offset + int(index.frame_length[row])]
    return zlib.crc32(frame) == int(index.frame_crc32[row])


def _members(stretch: bytes, start: int) -> Iterator[TarEntry]:
    """Walk through the tar members of a sound stretch."""
    position = 0
    while position < len(stretch):
        header = member_header(stretch[position:])
        yield TarEntry(header.name, start + position + BLOCK, header.size)
        position += BLOCK + header.size + -header.size % BLOCK


def _check_webdataset_index(root: str, name: str, entries: list[TarEntry]) -> Iterator[Damage]:
    try:
        found = storage.read_bytes(storage.join(root, name))
    except OSError as error:
        yield Damage(name, None, f"cannot be read ({error.strerror or error})")
        return
    if found != webdataset_index(entries).encode():
        yield Damage(name, None, "does not fit its shard: make it again with DALI's wds2idx")
