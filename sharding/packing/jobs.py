"""What a process does about one shard of the plan: make it, or check that it can stay as it is."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from pclkd.sharding.datasets.dataset import Video
from pclkd.sharding.packing.journal import PLAN_NAME, remove_record, write_record
from pclkd.sharding.packing.reuse import ListedShard, listed_videos, recorded_result
from pclkd.sharding.packing.shard import Outcome, Tell, make_shard
from pclkd.sharding.packing.stored import StoredVideo
from pclkd.sharding.packing.task import WORK_FOLDER, ShardResult, ShardTask
from pclkd.sharding.shards.manifest import MANIFEST_NAME, Quarantined

__all__ = ["CheckShard", "Job", "MakeShard"]


@dataclass(frozen=True)
class Job(ABC):
    """Something to do about the shard of a task."""

    task: ShardTask

    mark: ClassVar[str]
    """File in the output that is there as long as such jobs are done; who does not see it sees another folder."""

    @abstractmethod
    def do(self, so_far: Sequence[Outcome], tell: Tell) -> ShardResult | None:
        """Do it; see `make_shard` for the arguments. None: the shard cannot stay."""


@dataclass(frozen=True)
class MakeShard(Job):
    """Make the shard, unless it is recorded as made.

    Attributes:
        stored: videos of it that lie in a finished set already, by key.
    """

    stored: Mapping[str, StoredVideo] = field(default_factory=dict)

    mark = f"{WORK_FOLDER}/{PLAN_NAME}"

    def do(self, so_far: Sequence[Outcome], tell: Tell) -> ShardResult:
        """Give what is recorded where it holds, else make the shard and record it."""
        if not so_far or not self.task.part.exists():
            recorded = recorded_result(self.task)
            if recorded is not None:
                return recorded
            remove_record(self.task)
            if so_far:
                # The process was lost after the tar had its final name, but before that was written down.
                tell(("restart",))
                so_far = ()
        result = make_shard(self.task, so_far, tell, self.stored)
        write_record(self.task, result)
        return result


@dataclass(frozen=True)
class CheckShard(Job):
    """Compare the shard of a finished set with what it would become now.

    Attributes:
        listed: what it is; None when there is no such shard.
        quarantined: videos of the task that the manifest names as left out.
    """

    listed: ListedShard | None
    quarantined: tuple[Quarantined, ...]

    mark = MANIFEST_NAME

    @property
    def fits(self) -> bool:
        """Whether the shard holds videos of the names that the task has, as far as can be told without reading it."""
        names = [video.key.encode() for video in self._wanted]
        return names == (self.listed.samples["key"].tolist() if self.listed else [])

    def do(self, so_far: Sequence[Outcome], tell: Tell) -> ShardResult | None:  # noqa: ARG002 - there are no steps
        """Give what the finished set tells of the shard, if making it would give the same."""
        if not self.fits:
            return None
        if self.listed is None:
            return ShardResult(None, [], list(self.quarantined), kept=True)
        packed = listed_videos(self.task, self._wanted, self.listed)
        return None if packed is None else ShardResult(self.listed.record, packed, list(self.quarantined), kept=True)

    @property
    def _wanted(self) -> list[Video]:
        """The videos that are to be in the shard."""
        left_out = {video.video for video in self.quarantined}
        return [video for video in self.task.videos if video.shown not in left_out]
