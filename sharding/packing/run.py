"""One run over one output: check what is there, make what is missing, put it together, clean up."""

import os
import uuid
from collections.abc import Callable, Sequence
from dataclasses import asdict

import numpy as np
import numpy.typing as npt

from pclkd.sharding.common import storage
from pclkd.sharding.common.console import Step
from pclkd.sharding.common.errors import InputError
from pclkd.sharding.common.storage import identify
from pclkd.sharding.datasets.dataset import Dataset
from pclkd.sharding.packing.deal import deal_videos
from pclkd.sharding.packing.engines import Engine
from pclkd.sharding.packing.jobs import CheckShard, MakeShard
from pclkd.sharding.packing.journal import write_plan, write_record
from pclkd.sharding.packing.output import any_record, clear_unfinished, clear_work, prepare, remove_all, remove_shards
from pclkd.sharding.packing.reuse import listed_shards
from pclkd.sharding.packing.task import Opener, PackedVideo, ShardResult, ShardTask
from pclkd.sharding.shards.columns import Column, check_columns, column_sums, write_columns
from pclkd.sharding.shards.index import ShardIndex
from pclkd.sharding.shards.manifest import FORMAT_VERSION, MANIFEST_NAME, Manifest, Quarantined, Remark, SplitCount
from pclkd.sharding.video.clock import even_times
from pclkd.sharding.video.settings import PackSettings

__all__ = ["PackRun", "index_columns", "shard_manifest"]


_PART_CODES = {"train": 1, "test": 2}


def index_columns(results: Sequence[ShardResult], numbers: tuple[int, ...]) -> dict[str, Column]:
    """Return the columns of the index; `numbers` are the splits. At least one video must be packed.

    Times are among them only where the frames of a video do not follow each other evenly.
    """
    made = [result for result in results if result.record]
    packed = [video for result in made for video in result.packed]
    offsets = [video.offset + np.cumsum(video.lengths, dtype=np.int64) - video.lengths for video in packed]
    codes = [[_PART_CODES.get(video.video.parts.get(number, ""), 0) for number in numbers] for video in packed]
    uneven = any(video.times is not None for video in packed)
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
    }


def _times(video: PackedVideo) -> npt.NDArray[np.float64]:
    return even_times(len(video.lengths), video.fps) if video.times is None else video.times


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
    packed = [video for result in results for video in result.packed]
    remarks = [Remark(video.video.relative, video.remark) for video in packed if video.remark]
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
    ).signed()


class PackRun:
    """A run that holds the lock of its output.

    Args:
        dataset: what to pack.
        settings: how.
        out: where to; the output must be locked.
        opener: opens a video.
    """

    def __init__(self, dataset: Dataset, settings: PackSettings, out: str, opener: Opener) -> None:
        self.dataset = dataset
        self.settings = settings
        self.out = out
        self.run = f"{os.getpid()}-{uuid.uuid4().hex[:8]}"
        self._began = False
        shards = deal_videos(dataset.videos, settings.videos_per_shard)
        identities = iter(identify([video.path for shard in shards.values() for video in shard]))
        self.tasks = [
            ShardTask(
                number,
                shard,
                tuple(next(identities) for _ in shard),
                dataset.classes,
                out,
                settings,
                self.run,
                opener,
            )
            for number, shard in shards.items()
        ]

    def make(
        self, engine: Engine, step: Step, check: Callable[[], None], *, overwrite: bool
    ) -> tuple[Manifest, list[ShardResult], bool]:
        """Finish the set; return its manifest, what became of each shard, and whether it was complete already.

        Args:
            engine: makes the shards.
            step: called with the name of each video that is through.
            check: raises InputError when the lock of the output was lost; called before the set is put together.
            overwrite: whether a finished set may be replaced.

        Raises:
            InputError: a finished set is there that is another or damaged, and `overwrite` is not said; or no video
                can be decoded.
        """
        found: list[ShardResult | None] = [None] * len(self.tasks)
        if storage.exists(storage.join(self.out, MANIFEST_NAME)):
            index = self._finished(overwrite)
            if index is not None:
                found = self._check(index, engine, step, overwrite)
                if not overwrite:
                    return self._complete(index, [result for result in found if result is not None])
        self._began = True
        prepare(self.out)
        write_plan(self.out, self.dataset.source, self.settings, self.tasks)
        jobs = []
        for task, result in zip(self.tasks, found, strict=True):
            if result is None:
                jobs.append(MakeShard(task))
            else:
                write_record(task, result)
        # From here on no reader may take what is there for a whole set.
        storage.remove(storage.join(self.out, MANIFEST_NAME))
        made = iter(engine.run(jobs, step))
        results = [result if result is not None else next(made) for result in found]
        whole = [result for result in results if result is not None]
        check()
        return self._finish(whole), whole, False

    def give_up(self) -> None:
        """Leave finished shards to the next run, and nothing else."""
        if not self._began:
            return
        if any_record(self.out):
            clear_unfinished(self.out)
        else:
            remove_all(self.out, self.run)

    def _finished(self, overwrite: bool) -> ShardIndex | None:
        """Open the finished set that is there; None when it is to be replaced altogether."""
        try:
            index = ShardIndex.open(self.out, check_shards=False)
            check_columns(self.out, index.manifest.columns)
        except InputError as error:
            if overwrite:
                return None
            problem = f"{self.out} holds a finished shard set already, which cannot be read ({error.problem})"
            raise InputError(problem, remedy="give another folder or say --overwrite") from error
        if index.manifest.settings == self.settings:
            return index
        if overwrite:
            return None
        then, now = asdict(index.manifest.settings), asdict(self.settings)
        differ = ", ".join(f"{name} {then[name]}, not {now[name]}" for name in now if now[name] != then[name])
        raise InputError(
            f"{self.out} holds a finished shard set already, made with other settings ({differ})",
            remedy="give another folder or say --overwrite",
        )

    def _check(self, index: ShardIndex, engine: Engine, step: Step, overwrite: bool) -> list[ShardResult | None]:
        """Compare the listed shards with the plan; None stands for one that must be made (again)."""
        listed = listed_shards(index)
        # --overwrite gives quarantined videos another chance: they may have been mended.
        left_out = {} if overwrite else {video.video: video for video in index.manifest.quarantined}
        checks = [CheckShard(task, listed.get(task.name), _left_out(task, left_out)) for task in self.tasks]
        possible = [check.fits for check in checks]
        if not overwrite and not all(possible):
            raise self._other(possible.count(False), len(checks))
        checked = iter(engine.run([check for check in checks if check.fits], step))
        found = [next(checked) if fits else None for fits in possible]
        if not overwrite and None in found:
            raise self._other(found.count(None), len(checks))
        return found

    def _other(self, changed: int, total: int) -> InputError:
        return InputError(
            f"{self.out} holds a finished shard set already, and {changed} of the {total} shards would change: videos "
            "were added, removed or changed, or a shard is damaged",
            remedy="give another folder or say --overwrite: shards that would not change are kept",
        )

    def _complete(self, index: ShardIndex, results: list[ShardResult]) -> tuple[Manifest, list[ShardResult], bool]:
        """Check that a set whose shards are sound is complete in all else too."""
        columns = index_columns(results, self.dataset.numbers)
        sums = column_sums(columns)
        manifest = shard_manifest(self.dataset, self.settings, results, columns, sums)
        if manifest.fingerprint != index.fingerprint:
            raise InputError(
                f"{self.out} holds a finished shard set already, with other lists",
                remedy="give another folder or say --overwrite: the shards are kept",
            )
        clear_work(self.out, self.run)
        return manifest, results, True

    def _finish(self, results: Sequence[ShardResult]) -> Manifest:
        """Write the index columns and, last, the manifest; take away what is of no more use."""
        if not any(result.record for result in results):
            quarantined = sorted((v for result in results for v in result.quarantined), key=lambda v: v.video)
            remove_all(self.out, self.run)
            raise InputError(
                f"none of the {len(quarantined)} videos in {self.dataset.source} can be decoded, the first, "
                f"{quarantined[0].video}, {quarantined[0].reason}",
                remedy="check that the download is complete",
            )
        remove_shards(self.out, but=[result.record.name for result in results if result.record])
        columns = index_columns(results, self.dataset.numbers)
        sums = write_columns(self.out, columns)
        manifest = shard_manifest(self.dataset, self.settings, results, columns, sums)
        manifest.write(self.out)
        clear_work(self.out, self.run)
        return manifest


def _left_out(task: ShardTask, quarantined: dict[str, Quarantined]) -> tuple[Quarantined, ...]:
    return tuple(quarantined[video.relative] for video in task.videos if video.relative in quarantined)
