"""Which videos go into which shard: a pure function of the videos, never of workers, history or the order found.

The first bits of the hash of a video's key name its shard, and the hash orders the videos inside. So a video that is
added changes the one shard it falls into and no other, and the set is the same as if all had been packed at once. The
number of shards is a power of two that doubles when the videos pass a power of two times 128; only then does every
video move. The price is that shards differ in size by about a tenth, and that a small set can have gaps in its numbers.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from pclkd.sharding.common.errors import InputError
from pclkd.sharding.datasets.dataset import Video

__all__ = ["MOST_VIDEOS", "PackPart", "deal_videos", "shard_count", "shard_name"]

ItemT = TypeVar("ItemT")

MOST_VIDEOS = 128  # about 180 MB a shard for UCF101
_FEWEST_SHARDS = 16  # small sets too keep several workers and readers busy,
_FEWEST_VIDEOS = 4  # as long as a shard has some videos


def shard_count(videos: int, most: int = MOST_VIDEOS) -> int:
    """Return over how many shards to spread `videos`: a power of two, on average `most` / 2 to `most` videos each.

    Below 16 x 64 videos shards are smaller: up to 16 shards, of 4 videos or more.
    """
    needed = max(1, -(-videos // most))
    wanted = min(_FEWEST_SHARDS, max(1, videos // _FEWEST_VIDEOS))
    return int(max(1 << (needed - 1).bit_length(), 1 << (wanted.bit_length() - 1)))


def shard_name(number: int) -> str:
    """Return the file name of shard `number`."""
    return f"shard-{number:06d}.tar"


def deal_videos(videos: Sequence[Video], most: int = MOST_VIDEOS) -> dict[int, tuple[Video, ...]]:
    """Deal the videos into shards by a hash of their keys; shards without a video are left out.

    The hash mixes the classes, so that a reader that goes through the shards one after another still sees them mixed.

    Returns:
        The videos of each shard in their order, by its number, ascending.
    """
    count = shard_count(len(videos), most)
    shards: dict[int, list[tuple[bytes, Video]]] = {}
    for video in videos:
        # Spans of one video go together, so that it is decoded once for all of them.
        digest = hashlib.sha256((video.relative if video.span else video.key).encode()).digest()
        number = int.from_bytes(digest[:8], "big") * count >> 64
        shards.setdefault(number, []).append((digest, video))
    return {
        number: tuple(video for _, video in sorted(members, key=_order)) for number, members in sorted(shards.items())
    }


def _order(member: tuple[bytes, Video]) -> tuple[bytes, float, float, str]:
    digest, video = member
    return (digest, video.span.start, video.span.end, video.key) if video.span else (digest, 0, 0, video.key)


@dataclass(frozen=True)
class PackPart:
    """One of `of` parts of a plan, each made by a run of its own; `number` counts from 1.

    Raises:
        InputError: there is no such part.
    """

    number: int
    of: int

    def __post_init__(self) -> None:
        """Refuse a part that is none."""
        if not 1 <= self.number <= self.of:
            raise InputError(f"part {self}", remedy="count the parts from 1: 1/8, 2/8, ... 8/8")

    def __str__(self) -> str:
        return f"{self.number}/{self.of}"

    def share(self, items: Sequence[ItemT]) -> Sequence[ItemT]:
        """Return what is this part's of all shards, in their order."""
        return items[self.number - 1 :: self.of]
