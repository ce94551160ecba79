"""One run over one output: check what is there, make what is missing, put it together, clean up."""

import os
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict

from pclkd.sharding.common import storage
from pclkd.sharding.common.console import Step
from pclkd.sharding.common.errors import InputError
from pclkd.sharding.common.identity import identify
from pclkd.sharding.datasets.dataset import Dataset
from pclkd.sharding.packing.assemble import assemble, index_columns, shard_manifest
from pclkd.sharding.packing.deal import PackPart, deal_videos
from pclkd.sharding.packing.engines import Engine
from pclkd.sharding.packing.jobs import CheckShard, MakeShard
from pclkd.sharding.packing.journal import Plan, agree_on_plan, write_plan, write_record
from pclkd.sharding.packing.output import (
    clear_unfinished,
    clear_work,
    is_replacing,
    prepare,
    recorded_shards,
    refuse_foreign,
    remove_all,
    replaced_set,
    set_aside,
)
from pclkd.sharding.packing.reuse import listed_shards
from pclkd.sharding.packing.stored import StoredVideo, stored_videos
from pclkd.sharding.packing.task import Opener, ShardResult, ShardTask
from pclkd.sharding.shards.columns import check_columns, column_sums
from pclkd.sharding.shards.index import ShardIndex
from pclkd.sharding.shards.manifest import MANIFEST_NAME, Manifest, Quarantined
from pclkd.sharding.video.frames import open_video
from pclkd.sharding.video.settings import PackSettings

__all__ = ["PackRun"]


class PackRun:
    """A run that holds the lock of its output.

    Args:
        dataset: what to pack.
        settings: how.
        out: where to; the output must be locked.
        opener: opens a video.
        stored: videos that need not be decoded, by key.
        left_out: videos that were left out before.
    """

    def __init__(
        self,
        dataset: Dataset,
        settings: PackSettings,
        out: str,
        opener: Opener = open_video,
        *,
        stored: Mapping[str, StoredVideo] | None = None,
        left_out: Sequence[Quarantined] = (),
    ) -> None:
        self.dataset = dataset
        self.settings = settings
        self.out = out
        self.run = f"{os.getpid()}-{uuid.uuid4().hex[:8]}"
        self._stored = stored or {}
        self._left_out = tuple(left_out)
        self._part: list[str] | None = None
        self._began = False
        self._kept: set[str] = set()
        self._can_go_back = False
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
            InputError: a finished set is there that is another or damaged, and `overwrite` is not said; shards that are
                not ours; or no video can be decoded.
        """
        refuse_foreign(self.out)
        found: list[ShardResult | None] = [None] * len(self.tasks)
        finished = storage.exists(storage.join(self.out, MANIFEST_NAME))
        if finished:
            index = self._finished(overwrite)
            if index is not None:
                found = self._check(index, engine, step, overwrite)
                if not overwrite:
                    return self._complete(index, [result for result in found if result is not None])
            clear_work(self.out)  # of a run that was killed before its first step or behind its last one
        elif is_replacing(self.out):
            set_aside(self.out)
        self._began = True
        prepare(self.out)
        write_plan(self.out, Plan(self.dataset, self.settings, self.tasks), self.run)
        for task, result in zip(self.tasks, found, strict=True):
            if result is not None:
                write_record(task, result)
        if finished:
            self._kept = recorded_shards(self.out)
            self._can_go_back = not storage.is_remote(self.out)
            set_aside(self.out)
        self._stored = {**self._stored, **self._replaced()}
        to_make = [task for task, result in zip(self.tasks, found, strict=True) if result is None]
        made = iter(engine.run(self._jobs(to_make), step))
        results = [result if result is not None else next(made) for result in found]
        whole = [result for result in results if result is not None]
        check()
        return assemble(self.out, self.dataset, self.settings, whole, self._left_out), whole, False

    def make_part(self, part: PackPart, engine: Engine, step: Step) -> list[ShardResult]:
        """Make the shards of one part, beside other runs that make the others.

        Raises:
            InputError: a finished set is there, parts of another one, or shards that are not ours.
        """
        refuse_foreign(self.out)
        if storage.exists(storage.join(self.out, MANIFEST_NAME)):
            raise InputError(
                f"{self.out} holds a finished shard set already",
                remedy="pack without --part, which checks it, or give another place",
            )
        tasks = part.share(self.tasks)
        prepare(self.out, ())
        # Before anything is cleared away: parts of another plan may be at work.
        agree_on_plan(self.out, Plan(self.dataset, self.settings, self.tasks, part.of), self.run)
        self._part = [task.name for task in tasks]
        self._began = True
        clear_unfinished(self.out, self._part)
        return [result for result in engine.run(self._jobs(tasks), step) if result is not None]

    def _jobs(self, tasks: Sequence[ShardTask]) -> list[MakeShard]:
        stored = self._stored
        return [MakeShard(task, {v.key: stored[v.key] for v in task.videos if v.key in stored}) for task in tasks]

    def give_up(self) -> None:
        """Leave finished shards to the next run, else the finished set that was to be replaced, and nothing else."""
        if not self._began:
            return
        if self._part is None and storage.exists(storage.join(self.out, MANIFEST_NAME)):
            clear_work(self.out)  # nothing of the finished set that is there was touched
            return
        made = recorded_shards(self.out) - self._kept
        if self._part is not None or made or (is_replacing(self.out) and not self._can_go_back):
            clear_unfinished(self.out, self._part)
        else:
            remove_all(self.out)

    def _replaced(self) -> dict[str, StoredVideo]:
        """Return the videos of a set that is being replaced, where they were stored as they are to be now."""
        old = replaced_set(self.out)
        try:
            index = ShardIndex.open(old, check_shards=False)
            check_columns(old, index.manifest.columns)
        except InputError:  # there is none, or it is replaced because it is damaged
            return {}
        if index.manifest.settings != self.settings:
            return {}
        urls = {shard.name: storage.join(old, shard.name) for shard in index.manifest.shards}
        return stored_videos(
            index, {name: url if storage.exists(url) else storage.join(self.out, name) for name, url in urls.items()}
        )

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
                f"{self.out} holds a finished shard set already, with other lists or other files beside the videos",
                remedy="give another folder or say --overwrite: the shards are kept",
            )
        clear_work(self.out)
        return manifest, results, True


def _left_out(task: ShardTask, quarantined: dict[str, Quarantined]) -> tuple[Quarantined, ...]:
    return tuple(quarantined[video.shown] for video in task.videos if video.shown in quarantined)
