"""Finished shards put together: the index columns and the manifest."""

from collections.abc import Sequence

import numpy as np

from pclkd.sharding.datasets.dataset import Dataset
from pclkd.sharding.packing.task import ShardResult
from pclkd.sharding.shards.columns import Column
from pclkd.sharding.shards.manifest import FORMAT_VERSION, Manifest, PackSettings, SplitCount

__all__ = ["index_columns", "shard_manifest"]

_PART_CODES = {"train": 1, "test": 2}


def index_columns(results: Sequence[ShardResult], numbers: tuple[int, ...]) -> dict[str, Column]:
    """Return the columns of the index; `numbers` are the splits. At least one video must be packed."""
    made = [result for result in results if result.record]
    packed = [video for result in made for video in result.packed]
    offsets = [video.offset + np.cumsum(video.lengths, dtype=np.int64) - video.lengths for video in packed]
    codes = [[_PART_CODES.get(video.video.parts.get(number, ""), 0) for number in numbers] for video in packed]
    return {
        "sample_key": np.array([video.video.key.encode() for video in packed]),
        "sample_shard": np.repeat(np.arange(len(made), dtype=np.int32), [len(result.packed) for result in made]),
        "sample_offset": np.array([video.offset for video in packed], dtype=np.int64),
        "sample_frames": np.cumsum([0, *(len(video.lengths) for video in packed)], dtype=np.int64),
        "sample_label": np.array([video.video.label for video in packed], dtype=np.int32),
        "sample_group": np.array([video.video.group for video in packed], dtype=np.int32),
        "sample_split": np.array(codes, dtype=np.uint8).reshape(len(packed), len(numbers)),
        "sample_size": np.array([video.size for video in packed], dtype=np.int64),
        "sample_crc32": np.array([video.crc32 for video in packed], dtype=np.uint32),
        "sample_height": np.array([video.height for video in packed], dtype=np.int32),
        "sample_width": np.array([video.width for video in packed], dtype=np.int32),
        "frame_offset": np.concatenate(offsets),
        "frame_length": np.concatenate([video.lengths for video in packed]),
        "frame_crc32": np.concatenate([video.frame_crc32 for video in packed]),
    }


def shard_manifest(
    dataset: Dataset,
    settings: PackSettings,
    results: Sequence[ShardResult],
    columns: dict[str, Column],
    sums: dict[str, str],
) -> Manifest:
    """Return the signed manifest of a set; `sums` are the SHA-256 of the columns' files."""
    split = columns["sample_split"]
    quarantined = [video for result in results for video in result.quarantined]
    return Manifest(
        format_version=FORMAT_VERSION,
        dataset=dataset.kind,
        source=dataset.source,
        settings=settings,
        classes=dataset.classes,
        splits={
            str(number): SplitCount(int((split[:, row] == 1).sum()), int((split[:, row] == 2).sum()))
            for row, number in enumerate(dataset.numbers)
        },
        videos=len(columns["sample_key"]),
        frames=len(columns["frame_offset"]),
        shards=tuple(result.record for result in results if result.record),
        columns=sums,
        quarantined=tuple(sorted(quarantined, key=lambda video: video.video)),
        missing=dataset.missing,
        unlisted=dataset.unlisted,
    ).signed()
