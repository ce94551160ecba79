"""A whole set put together from finished shards: the index columns and, last, the manifest."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from pclkd.sharding.common.errors import InputError
from pclkd.sharding.datasets.dataset import Dataset
from pclkd.sharding.packing.output import clear_work, remove_all, remove_shards
from pclkd.sharding.packing.task import PackedVideo, ShardResult
from pclkd.sharding.shards.columns import Column, write_columns
from pclkd.sharding.shards.manifest import FORMAT_VERSION, Manifest, Quarantined, Remark, SplitCount
from pclkd.sharding.video.clock import even_times
from pclkd.sharding.video.settings import PackSettings

__all__ = ["assemble", "index_columns", "shard_manifest"]

_PART_CODES = {"train": 1, "test": 2}


def index_columns(results: Sequence[ShardResult], numbers: tuple[int, ...]) -> dict[str, Column]:
    """Return the columns of the index; `numbers` are the splits. At least one video must be packed.

    Times are among them only where the frames of a video do not follow each other evenly, and marks of salvaged videos
    only where there are any.
    """
    made = [result for result in results if result.record]
    packed = [video for result in made for video in result.packed]
    offsets = [video.offset + np.cumsum(video.lengths, dtype=np.int64) - video.lengths for video in packed]
    codes = [[_PART_CODES.get(video.video.parts.get(number, ""), 0) for number in numbers] for video in packed]
    uneven = any(video.times is not None for video in packed)
    salvaged = np.array([video.salvaged for video in packed], dtype=np.uint8)
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
        **({"frame_time": np.concatenate([_times(video) for video in packed])} if uneven else {}),
        **({"sample_salvaged": salvaged} if salvaged.any() else {}),
    }


def _times(video: PackedVideo) -> npt.NDArray[np.float64]:
    return even_times(len(video.lengths), video.fps) if video.times is None else video.times


def shard_manifest(
    dataset: Dataset,
    settings: PackSettings,
    results: Sequence[ShardResult],
    columns: dict[str, Column],
    sums: dict[str, str],
    left_out: Sequence[Quarantined] = (),
) -> Manifest:
    """Return the signed manifest of a set; `sums` are the SHA-256 of the columns' files."""
    split = columns["sample_split"]
    quarantined = [*left_out, *(video for result in results for video in result.quarantined)]
    packed = [video for result in results for video in result.packed]
    remarks = [Remark(video.video.shown, video.remark) for video in packed if video.remark]
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
        remarks=tuple(sorted(remarks, key=lambda remark: remark.video)),
        other_files=dataset.other_files,
    ).signed()


def assemble(
    out: str,
    dataset: Dataset,
    settings: PackSettings,
    results: Sequence[ShardResult],
    left_out: Sequence[Quarantined] = (),
) -> Manifest:
    """Write the index columns and, last, the manifest; take away what is of no more use.

    Args:
        out: folder or URL of the set.
        dataset: what was packed.
        settings: how.
        results: what became of each shard.
        left_out: videos that are named as quarantined beside those of the results.

    Raises:
        InputError: no video could be decoded.
    """
    if not any(result.record for result in results):
        quarantined = sorted((v for result in results for v in result.quarantined), key=lambda v: v.video)
        remove_all(out)
        raise InputError(
            f"none of the {len(quarantined)} videos in {dataset.source} can be decoded, the first, "
            f"{quarantined[0].video}, {quarantined[0].reason}",
            remedy="check that the download is complete",
        )
    remove_shards(out, but=[result.record.name for result in results if result.record])
    columns = index_columns(results, dataset.numbers)
    sums = write_columns(out, columns)
    manifest = shard_manifest(dataset, settings, results, columns, sums, left_out)
    manifest.write(out)
    clear_work(out)
    return manifest
