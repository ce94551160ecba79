"""Which videos go into which shard: a pure function of the videos, never of the number of workers."""

import hashlib
from collections.abc import Sequence

from pclkd.sharding.videos import Video

__all__ = ["plan_shards", "shard_name", "videos_per_shard"]

_MOST_VIDEOS = 128  # about 180 MB a shard for UCF101
_FEWEST_SHARDS = 16  # so that small sets still keep several workers and readers busy


def videos_per_shard(videos: int) -> int:
    """Return how many videos a shard holds when there are `videos` in all."""
    return min(_MOST_VIDEOS, max(1, -(-videos // _FEWEST_SHARDS)))


def shard_name(number: int) -> str:
    """Return the file name of shard `number`."""
    return f"ucf101-{number:06d}.tar"


def plan_shards(videos: Sequence[Video], size: int) -> list[tuple[Video, ...]]:
    """Deal the videos into shards of `size`, in the order of a hash of their keys.

    The hash mixes the classes, so that a reader that goes through the shards one after another still sees them mixed.
    """
    mixed = sorted(videos, key=lambda video: hashlib.sha256(video.key.encode()).digest())
    return [tuple(mixed[start : start + size]) for start in range(0, len(mixed), size)]
