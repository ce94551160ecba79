"""Pack videos into shards: check the input, hold the output, and run."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from pclkd.sharding.common import storage
from pclkd.sharding.common.console import Step
from pclkd.sharding.common.errors import InputError
from pclkd.sharding.common.files import told_in
from pclkd.sharding.datasets.dataset import Dataset
from pclkd.sharding.datasets.layout import find_layout
from pclkd.sharding.datasets.reading import read_dataset
from pclkd.sharding.packing.deal import PackPart
from pclkd.sharding.packing.engines import Engine, EngineName, check_engine, open_engine
from pclkd.sharding.packing.lock import locked
from pclkd.sharding.packing.run import PackRun
from pclkd.sharding.packing.supervise import Limits
from pclkd.sharding.packing.task import Opener, ShardResult
from pclkd.sharding.shards.manifest import Manifest, Quarantined
from pclkd.sharding.video.frames import open_video
from pclkd.sharding.video.settings import PackSettings

__all__ = [
    "PackPlan",
    "PackReport",
    "PartReport",
    "checked_place",
    "pack_part",
    "pack_videos",
    "plan_packing",
    "running",
]


@dataclass(frozen=True)
class PartReport:
    """What a run came to that made some shards or all.

    Attributes:
        seconds: that the run took.
        kept: shards that were there already.
        made: shards that were made.
        retried: attempts at a video that failed and were made again.
        videos: in all these shards.
        taken_over: videos that were copied from a finished set, not decoded.
        quarantined: videos that were left out.
    """

    seconds: float
    kept: int
    made: int
    retried: int
    videos: int
    taken_over: int
    quarantined: tuple[Quarantined, ...]

    @classmethod
    def of(cls, results: Sequence[ShardResult], started: float, **more: Any) -> Self:
        """Sum up what became of shards since `started`, by the monotonic clock."""
        kept = sum(result.kept for result in results)
        return cls(
            seconds=time.monotonic() - started,
            kept=kept,
            made=len(results) - kept,
            retried=sum(result.retried for result in results),
            videos=sum(len(result.packed) for result in results),
            taken_over=sum(result.taken_over for result in results),
            quarantined=tuple(video for result in results for video in result.quarantined),
            **more,
        )


@dataclass(frozen=True)
class PackReport(PartReport):
    """What a run came to that finished a set.

    Attributes:
        manifest: of the set.
        complete: whether it was there already.
    """

    manifest: Manifest
    complete: bool = False


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
    dataset: str = "auto",
    test_share: float = 0.0,
    strict: bool = False,
    allow_empty_split: bool = False,
    **frames: Any,
) -> PackPlan:
    """Read the lists and the folder, and check them, before anything is written.

    Args:
        videos: path or URL of the folder of videos, or of a table of them.
        splits: path or URL of the lists; see `read_dataset`.
        dataset: name of its layout; `auto` tells it.
        test_share: what to hold out as the test part where nothing tells the parts.
        strict: refuse videos that are missing or that no list names.
        allow_empty_split: take splits that have no train or no test video there; else that is an error wherever
            something tells the parts.
        **frames: fields of `PackSettings`.

    Raises:
        InputError: anything wrong with the folder or the lists, or a split without a train or a test video; with
            `strict` also any listed video that is not on disk and any video on disk that is not listed.
    """
    settings = PackSettings(**frames)
    found = read_dataset(videos, splits, dataset, test_share)
    if settings.fps and any(video.span and video.span.unit == "frames" for video in found.videos):
        raise InputError(
            f"spans in frames, and --fps {settings.fps:g}", remedy="give the spans in seconds (start,end), or no --fps"
        )
    if strict:
        _refuse_disagreement(videos, splits or videos, found)
    if found.parts_told and not allow_empty_split:
        _refuse_empty_split(videos, found)
    return PackPlan(str(videos), found, settings)


def pack_videos(
    plan: PackPlan,
    out: str | Path,
    *,
    workers: int | None = None,
    engine: EngineName = "local",
    ray_address: str | None = None,
    limits: Limits | None = None,
    overwrite: bool = False,
    step: Step = lambda _name, _failed=False, /: None,
    opener: Opener = open_video,
) -> PackReport:
    """Make the shard set that `plan` describes in `out`, or go on where an earlier run was stopped.

    The bytes depend on the videos, the lists and the settings alone: not on workers, engine, crashes or the time. What
    to make is written down first; finished shards of an earlier run are checked and kept; a video that cannot be
    decoded, or that a process hangs or crashes over, is tried twice, left out and named in the manifest. When the run
    fails, its finished shards stay for the next one.

    Args:
        plan: from `plan_packing`.
        out: folder or URL to make, or to fill.
        workers: processes; as many as there are processors when None.
        engine: "local" or "ray".
        ray_address: of a Ray cluster.
        limits: what one video may take.
        overwrite: whether a finished set in `out` may be replaced; shards that would not change are kept.
        step: called with the name of each video that is through, and whether it was left out.
        opener: opens a video.

    Raises:
        InputError: `out` holds another finished set or is in use, no video can be decoded, or processes keep dying for
            a reason that lies in no video.
    """
    started = time.monotonic()
    check_engine(engine, ray_address)
    out = checked_place(out)
    with locked(out) as check:
        run = PackRun(plan.dataset, plan.settings, out, opener)
        with running(run, engine, workers, ray_address, limits) as opened:
            manifest, results, complete = run.make(opened, step, check, overwrite=overwrite)
    return PackReport.of(results, started, manifest=manifest, complete=complete)


def pack_part(
    plan: PackPlan,
    out: str | Path,
    part: PackPart,
    *,
    workers: int | None = None,
    engine: EngineName = "local",
    ray_address: str | None = None,
    limits: Limits | None = None,
    step: Step = lambda _name, _failed=False, /: None,
    opener: Opener = open_video,
) -> PartReport:
    """Make one part of the shards of the set that `plan` describes; see `pack_videos` for the arguments.

    Runs on any number of machines make the others, at any time; `finish_set` puts them together to the bytes of one
    run. They must see the same videos, lists and settings, and the same `out`.

    Raises:
        InputError: `out` holds a finished set or parts of another one, or this part of it is in use.
    """
    started = time.monotonic()
    check_engine(engine, ray_address)
    out = checked_place(out)
    with locked(out, str(part)):
        run = PackRun(plan.dataset, plan.settings, out, opener)
        with running(run, engine, workers, ray_address, limits) as opened:
            results = run.make_part(part, opened, step)
    return PartReport.of(results, started)


@contextmanager
def running(
    run: PackRun, engine: EngineName, workers: int | None, ray_address: str | None, limits: Limits | None
) -> Iterator[Engine]:
    """Give the engine for a run; when it fails, only its finished shards stay."""
    try:
        with (
            told_in(run.out),
            open_engine(engine, workers=workers, limits=limits or Limits(), ray_address=ray_address) as opened,
        ):
            yield opened
    except BaseException:
        run.give_up()
        raise


def checked_place(out: str | Path) -> str:
    """Return a folder or URL that several processes can write to, as text.

    Raises:
        InputError: it is none.
    """
    if not storage.is_remote(out):
        return str(storage.local_path(out))
    if str(out).startswith("memory://"):
        remedy = "give a folder, or an s3:// or gs:// URL"
        raise InputError(f"{out} is in the memory of one process, and many write shards", remedy=remedy)
    storage.filesystem(out)  # a missing package is told before anything is done
    return str(out).rstrip("/")


def _refuse_empty_split(videos: str | Path, dataset: Dataset) -> None:
    empty = [(number, part) for number in dataset.numbers for part, count in dataset.parts(number).items() if not count]
    if empty:
        gone = dataset.missing
        missing = f"; {len(gone)} listed videos are not there, the first is {gone[0]}" if gone else ""
        raise InputError(
            f"split {empty[0][0]} has no {empty[0][1]} video in {videos}{missing}",
            remedy="complete the folder or the lists, or say --allow-empty-split where it is meant",
        )


def _refuse_disagreement(videos: str | Path, splits: str | Path, dataset: Dataset) -> None:
    remedy = "complete the folder or the lists, or pack without --strict"
    if dataset.missing:
        raise InputError(
            f"{len(dataset.missing)} videos listed in {splits} are not in {videos}, the first is {dataset.missing[0]}",
            remedy=remedy,
        )
    if dataset.unlisted:
        where = f"in no list of {splits}" if find_layout(dataset.kind).lists else "outside of the class folders"
        raise InputError(
            f"{len(dataset.unlisted)} videos in {videos} stand {where}, the first is {dataset.unlisted[0]}",
            remedy=remedy,
        )
