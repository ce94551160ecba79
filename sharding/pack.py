"""Pack a folder of videos into shards: plan, make the shards, write the index, and the manifest last."""

import fcntl
import os
import re
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pclkd.sharding.columns import Column, write_columns
from pclkd.sharding.datasets import DatasetChoice, read_dataset
from pclkd.sharding.errors import InputError
from pclkd.sharding.manifest import FORMAT_VERSION, MANIFEST_NAME, Manifest, PackSettings, SplitCount
from pclkd.sharding.plan import plan_shards
from pclkd.sharding.shard import ShardResult, ShardTask, pack_shard
from pclkd.sharding.videos import Dataset
from pclkd.sharding.workers import available_cpus, run_tasks

__all__ = ["PackPlan", "PackReport", "pack_videos", "plan_packing"]

# What this program may remove from a folder: names that only it gives.
_OURS = re.compile(r"shard-\d{6}\.(tar|idx)(\.part)?|manifest\.json(\.part)?|index/[a-z0-9_]+\.npy(\.part)?")
_PART_CODES = {"train": 1, "test": 2}


@dataclass(frozen=True)
class PackReport:
    """The finished set and how long it took, in seconds."""

    manifest: Manifest
    seconds: float


@dataclass(frozen=True)
class PackPlan:
    """Checked input of a pack run: where the videos are, what the data set holds, and the settings."""

    videos: str
    dataset: Dataset
    settings: PackSettings


def plan_packing(
    videos: str | Path,
    splits: str | Path | None = None,
    *,
    dataset: DatasetChoice = "auto",
    test_share: float = 0.0,
    strict: bool = False,
    **frames: Any,
) -> PackPlan:
    """Read the lists and the folder, and check them, before anything is written.

    Args:
        videos: path or URL of the folder of videos, or of a table of them.
        splits: path or URL of the lists; see `read_dataset`.
        dataset: the layout of the data set.
        test_share: what to hold out as the test part where nothing tells the parts.
        strict: refuse videos that are missing or that no list names.
        **frames: fields of `PackSettings`.

    Raises:
        InputError: anything wrong with the folder or the lists; with `strict` also any listed video that is not on
            disk and any video on disk that is not listed.
    """
    settings = PackSettings(**frames)
    found = read_dataset(videos, splits, dataset, test_share)
    if strict:
        _refuse_disagreement(videos, splits or videos, found)
    return PackPlan(str(videos), found, settings)


def pack_videos(
    plan: PackPlan,
    out: str | Path,
    *,
    workers: int | None = None,
    overwrite: bool = False,
    step: Callable[[str], None] = lambda _: None,
) -> PackReport:
    """Make the shard set that `plan` describes in the folder `out`.

    The bytes depend on the videos, the lists and the settings alone, not on `workers`. A video that cannot be decoded
    is left out and named in the manifest. On failure nothing of the set stays behind.

    Args:
        plan: from `plan_packing`.
        out: folder to make, or to fill; what a killed run left in it is replaced.
        workers: processes; as many as there are processors when None.
        overwrite: whether a finished set in `out` may be replaced.
        step: called with the name of each video that is through.

    Raises:
        InputError: `out` holds a finished set or is in use, no video can be decoded, or a worker process died.
    """
    started = time.monotonic()
    out = Path(out)
    with _locked(out):
        _clear(out, overwrite=overwrite)
        try:
            (out / "index").mkdir(exist_ok=True)
            shards = plan_shards(plan.dataset.videos, plan.settings.videos_per_shard)
            tasks = [
                ShardTask(shard.number, shard.videos, plan.dataset.classes, out, plan.settings) for shard in shards
            ]
            results = run_tasks(pack_shard, tasks, workers or available_cpus(), step)
            manifest = _finish(plan, out, results)
        except BaseException as error:
            _remove_ours(out)
            if isinstance(error, OSError) and error.filename is None:
                error.filename = str(out)  # a full disk is told without its place
            raise
    return PackReport(manifest, time.monotonic() - started)


def _refuse_disagreement(videos: str | Path, splits: str | Path, dataset: Dataset) -> None:
    remedy = "complete the folder or the lists, or pack without --strict"
    if dataset.missing:
        raise InputError(
            f"{len(dataset.missing)} videos listed in {splits} are not in {videos}, the first is {dataset.missing[0]}",
            remedy=remedy,
        )
    if dataset.unlisted:
        raise InputError(
            f"{len(dataset.unlisted)} videos in {videos} stand in no list of {splits}, the first is "
            f"{dataset.unlisted[0]}",
            remedy=remedy,
        )


@contextmanager
def _locked(out: Path) -> Iterator[None]:
    """Hold the folder: two runs that fill it at once would delete each other's files."""
    try:
        out.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise InputError(f"{out} is not a folder", remedy="give another place for the shards") from None
    handle = os.open(out, os.O_RDONLY | os.O_DIRECTORY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InputError(
                f"another run is packing into {out}", remedy="wait for it or give another folder"
            ) from None
        yield
    finally:
        os.close(handle)


def _clear(out: Path, *, overwrite: bool) -> None:
    if (out / MANIFEST_NAME).exists():
        if not overwrite:
            raise InputError(
                f"{out} holds a finished shard set already", remedy="give another folder or say --overwrite"
            )
        # First, so that no reader takes what follows for a whole set.
        (out / MANIFEST_NAME).unlink()
    _remove_ours(out)


def _remove_ours(out: Path) -> None:
    for folder in (out, out / "index"):
        for path in folder.glob("*"):
            if _OURS.fullmatch(str(path.relative_to(out))):
                path.unlink(missing_ok=True)
    with suppress(OSError):
        (out / "index").rmdir()


def _finish(plan: PackPlan, out: Path, results: Sequence[ShardResult]) -> Manifest:
    """Write the index columns and then the manifest."""
    made = [result for result in results if result.record]
    quarantined = sorted((video for result in results for video in result.quarantined), key=lambda video: video.video)
    if not made:
        first = quarantined[0]
        raise InputError(
            f"none of the {len(quarantined)} videos in {plan.videos} can be decoded, the first, {first.video}, "
            f"{first.reason}",
            remedy="check that the download is complete",
        )
    columns = _columns(made, plan.dataset.numbers)
    split = columns["sample_split"]
    manifest = Manifest(
        format_version=FORMAT_VERSION,
        dataset=plan.dataset.kind,
        source=plan.dataset.source,
        settings=plan.settings,
        classes=plan.dataset.classes,
        splits={
            str(number): SplitCount(int((split[:, row] == 1).sum()), int((split[:, row] == 2).sum()))
            for row, number in enumerate(plan.dataset.numbers)
        },
        videos=len(columns["sample_key"]),
        frames=len(columns["frame_offset"]),
        shards=tuple(result.record for result in made if result.record),
        columns=write_columns(out, columns),
        quarantined=tuple(quarantined),
        missing=plan.dataset.missing,
        unlisted=plan.dataset.unlisted,
    ).signed()
    manifest.write(out)
    return manifest


def _columns(made: Sequence[ShardResult], numbers: tuple[int, ...]) -> dict[str, Column]:
    packed = [video for result in made for video in result.packed]
    lengths = [np.array(video.lengths, dtype=np.int32) for video in packed]
    offsets = [video.offset + np.cumsum(own, dtype=np.int64) - own for video, own in zip(packed, lengths, strict=True)]
    codes = [[_PART_CODES.get(video.video.parts.get(number, ""), 0) for number in numbers] for video in packed]
    return {
        "sample_key": np.array([video.video.key.encode() for video in packed]),
        "sample_shard": np.repeat(np.arange(len(made), dtype=np.int32), [len(result.packed) for result in made]),
        "sample_offset": np.array([video.offset for video in packed], dtype=np.int64),
        "sample_frames": np.cumsum([0, *(len(own) for own in lengths)], dtype=np.int64),
        "sample_label": np.array([video.video.label for video in packed], dtype=np.int32),
        "sample_group": np.array([video.video.group for video in packed], dtype=np.int32),
        "sample_split": np.array(codes, dtype=np.uint8),
        "sample_size": np.array([video.size for video in packed], dtype=np.int64),
        "sample_crc32": np.array([video.crc32 for video in packed], dtype=np.uint32),
        "sample_height": np.array([video.height for video in packed], dtype=np.int32),
        "sample_width": np.array([video.width for video in packed], dtype=np.int32),
        "frame_offset": np.concatenate(offsets),
        "frame_length": np.concatenate(lengths),
        "frame_crc32": np.array([crc for video in packed for crc in video.frame_crc32], dtype=np.uint32),
    }
