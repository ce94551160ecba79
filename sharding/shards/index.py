"""Random access to a finished shard set: where every sample and every frame lies."""

from pathlib import Path

import numpy as np
import numpy.typing as npt

from pclkd.sharding.common import storage
from pclkd.sharding.common.errors import InputError
from pclkd.sharding.datasets.dataset import Part
from pclkd.sharding.datasets.names import is_sample_key
from pclkd.sharding.shards.columns import COLUMNS, EXTRA_COLUMNS, Column, let_go, map_column
from pclkd.sharding.shards.manifest import Manifest
from pclkd.sharding.shards.tar import BLOCK
from pclkd.sharding.video.settings import MAX_PIXELS

__all__ = ["ShardIndex"]

_PACK_AGAIN = "pack the videos again with 'shard-ucf101 pack', or restore the file and run 'shard-ucf101 verify'"
_CHECKED_AT_ONCE = 1 << 16  # samples: a million of them need no more memory than these


class ShardIndex:
    """The index of a shard set with S samples (videos) and F frames; its columns are memory-mapped.

    Attributes:
        root: folder or URL of the shard set.
        manifest: what the set holds.
        sample_key: name of each sample, bytes [S].
        sample_shard: shard of each sample, int32 [S].
        sample_offset: byte position of each sample's frames in its tar, int64 [S].
        sample_frames: sample s owns the frame rows `sample_frames[s]:sample_frames[s + 1]`, int64 [S + 1].
        sample_label: 0-based class, -1 without one, int32 [S].
        sample_group: group number, -1 where unknown, int32 [S].
        sample_split: 0 in neither part, 1 train, 2 test; a column for each split, uint8 [S, splits].
        sample_size: bytes of each sample's stretch of the tar, from its first header (512 bytes before
            `sample_offset`) to the next sample's, int64 [S].
        sample_crc32: checksum of that stretch, uint32 [S].
        sample_height: of the stored frames, pixels, int32 [S].
        sample_width: of the stored frames, pixels, int32 [S].
        frame_offset: byte position of each frame in its tar, int64 [F].
        frame_length: bytes of each frame, int32 [F].
        frame_crc32: checksum of each frame's bytes, uint32 [F].
        sample_salvaged: 1 where a sample is a part of a damaged video, uint8 [S]; None where none is.
        frame_time: when each frame is on screen, in seconds from the first one of its video, float64 [F]; None where
            the frames of every video follow each other evenly, so that its notes' `fps` tells.
    """

    def __init__(self, root: str, manifest: Manifest, columns: dict[str, Column]) -> None:
        self.root = root
        self.manifest = manifest
        self.sample_key: npt.NDArray[np.bytes_] = columns["sample_key"]
        self.sample_shard: npt.NDArray[np.int32] = columns["sample_shard"]
        self.sample_offset: npt.NDArray[np.int64] = columns["sample_offset"]
        self.sample_frames: npt.NDArray[np.int64] = columns["sample_frames"]
        self.sample_label: npt.NDArray[np.int32] = columns["sample_label"]
        self.sample_group: npt.NDArray[np.int32] = columns["sample_group"]
        self.sample_split: npt.NDArray[np.uint8] = columns["sample_split"]
        self.sample_size: npt.NDArray[np.int64] = columns["sample_size"]
        self.sample_crc32: npt.NDArray[np.uint32] = columns["sample_crc32"]
        self.sample_height: npt.NDArray[np.int32] = columns["sample_height"]
        self.sample_width: npt.NDArray[np.int32] = columns["sample_width"]
        self.frame_offset: npt.NDArray[np.int64] = columns["frame_offset"]
        self.frame_length: npt.NDArray[np.int32] = columns["frame_length"]
        self.frame_crc32: npt.NDArray[np.uint32] = columns["frame_crc32"]
        self.sample_salvaged: npt.NDArray[np.uint8] | None = columns.get("sample_salvaged")
        self.frame_time: npt.NDArray[np.float64] | None = columns.get("frame_time")

    @classmethod
    def open(cls, root: str | Path, *, check_shards: bool = True) -> "ShardIndex":
        """Open a finished shard set.

        Args:
            root: folder or URL of the shard set; the columns behind a URL are copied into a local cache.
            check_shards: whether every tar must be there with the length that the manifest tells.

        Raises:
            InputError: no finished shard set, columns that do not fit the manifest, or a shard that is missing or of
                another length.
        """
        root = str(root) if storage.is_remote(root) else str(storage.local_path(root))
        manifest = Manifest.read(root)
        columns = {name: map_column(root, name, manifest.columns.get(name)) for name in _names(manifest)}
        _check_lengths(root, manifest, columns)
        _check_samples(root, manifest, columns)
        if check_shards:
            _check_shards(root, manifest)
        return cls(root, manifest, columns)

    def __len__(self) -> int:
        return len(self.sample_key)

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names; the position is the label. Empty where the videos have no labels."""
        return self.manifest.classes

    def require_labels(self, what: str) -> None:
        """Refuse what needs labels where the videos have none.

        Raises:
            InputError: the set has no classes.
        """
        if not self.classes:
            raise InputError(
                f"{what} needs labels, and the videos of {self.root} have none",
                remedy="use the pretext task (--protocol pretext), or a set that was packed with labels",
            )

    @property
    def fingerprint(self) -> str:
        """SHA-256 that stands for the whole set."""
        return self.manifest.fingerprint

    @property
    def smallest_frame(self) -> tuple[int, int]:
        """The smallest height and the smallest width of any stored video, in pixels."""
        return int(self.sample_height.min()), int(self.sample_width.min())

    def sample_sizes(self, samples: npt.ArrayLike) -> npt.NDArray[np.int64]:
        """Return height and width of the stored frames of each of the B samples, pixels, int64 [B, 2]."""
        ids = np.asarray(samples)
        return np.stack([self.sample_height[ids], self.sample_width[ids]], axis=-1).astype(np.int64)

    def shard_url(self, shard: int) -> str:
        """Return the path or URL of a shard."""
        return storage.join(self.root, self.manifest.shards[shard].name)

    def frame_count(self, sample: int) -> int:
        """Return how many frames a sample has."""
        return int(self.sample_frames[sample + 1] - self.sample_frames[sample])

    def key(self, sample: int) -> str:
        """Return the name of a sample: letters, digits, `_` and `-`, so that files can be named after it.

        Raises:
            InputError: the index holds another name, which no packer writes.
        """
        key = bytes(self.sample_key[sample]).decode("latin-1")
        if not is_sample_key(key):
            raise InputError(f"index column sample_key of {self.root} holds the name {key!r}", remedy=_PACK_AGAIN)
        return key

    def split_samples(self, split: int, part: Part) -> npt.NDArray[np.int64]:
        """Return the samples of one part of a split, ascending, int64 [n].

        Raises:
            InputError: there is no such split, or that part of it holds no sample.
        """
        known = ", ".join(
            f"{number} ({count.train} train, {count.test} test)" for number, count in self.manifest.splits.items()
        )
        numbers = [int(number) for number in self.manifest.splits]
        if split not in numbers:
            raise InputError(f"no split {split} in {self.root}", remedy=f"use one of the splits {known}")
        chosen = np.flatnonzero(self.sample_split[:, numbers.index(split)] == (1 if part == "train" else 2))
        if not len(chosen):
            raise InputError(
                f"the {part} part of split {split} in {self.root} is empty",
                remedy="pack again with --test-share or more videos, train without measuring (--set "
                f"evaluation.every=0), or use another split; the splits are {known}",
            )
        return chosen.astype(np.int64, copy=False)


def _names(manifest: Manifest) -> list[str]:
    return [*COLUMNS, *(name for name in EXTRA_COLUMNS if name in manifest.columns)]


def _check_lengths(root: str, manifest: Manifest, columns: dict[str, Column]) -> None:
    samples, frames = manifest.videos, manifest.frames
    for name, column in columns.items():
        shape: tuple[int, ...] = (samples,) if name.startswith("sample_") else (frames,)
        if name == "sample_frames":
            shape = (samples + 1,)
        elif name == "sample_split":
            shape = (samples, len(manifest.splits))
        if column.shape != shape:
            raise InputError(
                f"index column {name} of {root} has shape {column.shape}, the manifest tells {shape}",
                remedy=_PACK_AGAIN,
            )
    if columns["sample_frames"][0] != 0 or columns["sample_frames"][-1] != frames:
        raise InputError(f"index column sample_frames of {root} does not cover {frames} frames", remedy=_PACK_AGAIN)


def _check_samples(root: str, manifest: Manifest, columns: dict[str, Column]) -> None:
    """Refuse samples that no packer writes; frames, of which there are many more, are checked where they are read."""
    lengths = np.array([shard.bytes for shard in manifest.shards], dtype=np.int64)
    for first in range(0, len(columns["sample_key"]), _CHECKED_AT_ONCE):
        rows = slice(first, first + _CHECKED_AT_ONCE)
        some = {name: column[rows] for name, column in columns.items() if name.startswith("sample_")}
        frames = columns["sample_frames"][first : first + _CHECKED_AT_ONCE + 1]
        for name, fine in _soundness(manifest, lengths, some, frames).items():
            if not fine.all():
                row = int(np.argmin(fine))
                raise InputError(
                    f"index column {name} of {root} holds {some[name][row].tolist()!r} for sample {first + row}, "
                    "which fits neither the other columns nor the manifest",
                    remedy=_PACK_AGAIN,
                )
    for name, column in columns.items():
        if name.startswith("sample_"):
            let_go(column)


def _soundness(
    manifest: Manifest, lengths: npt.NDArray[np.int64], some: dict[str, Column], frames: Column
) -> dict[str, npt.NDArray[np.bool_]]:
    """Of some samples, by column, whether each can be right."""
    shard, offset, size = (some[f"sample_{name}"] for name in ("shard", "offset", "size"))
    height, width, label = (some[f"sample_{name}"] for name in ("height", "width", "label"))
    known = (shard >= 0) & (shard < len(lengths))
    room = lengths[np.where(known, shard, 0)] if len(lengths) else np.zeros(len(shard), np.int64)
    return {
        "sample_shard": known,
        "sample_offset": (offset >= BLOCK) & (offset <= room),
        "sample_size": (size >= BLOCK) & (size <= room) & (offset - BLOCK <= room - size),
        "sample_frames": frames[1:] > frames[:-1],
        "sample_label": (label >= -1) & (label < len(manifest.classes)),
        "sample_group": some["sample_group"] >= -1,
        "sample_split": np.asarray((some["sample_split"] <= 2).all(axis=1)),
        "sample_height": height > 0,
        "sample_width": (width > 0) & (width * height.astype(np.int64) <= MAX_PIXELS),
    }


def _check_shards(root: str, manifest: Manifest) -> None:
    found = storage.sizes(root)
    for shard in manifest.shards:
        url = storage.join(root, shard.name)
        if shard.name not in found:
            raise InputError(f"shard {url} is missing (expected {shard.bytes} bytes)", remedy=_PACK_AGAIN)
        if found[shard.name] != shard.bytes:
            raise InputError(f"shard {url} has {found[shard.name]} bytes, expected {shard.bytes}", remedy=_PACK_AGAIN)
