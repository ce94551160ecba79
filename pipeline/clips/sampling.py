"""Which frames: clip positions as pure index arithmetic, for B videos at once.

A clip of T frames shows every `frame_stride`-th frame of its video, so it reaches over (T - 1) * frame_stride + 1 of
them. Starts are drawn uniformly over all places where the clips fit; a video too short for that starts at frame 0 and
loops, or rests at its last frame (`clip_frames`).

Source: Pretext-Contrastive Learning, arXiv 2010.15464 (tuples: T 16, 8 frames between clips, remote clip at least 16
frames away).
"""

from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import BeforeValidator, Field, ValidationInfo

from pclkd.pipeline.pretext.base import FASTEST, TUPLE_VIEWS
from pclkd.sharding.common.settings import Settings

__all__ = [
    "ClipSettings",
    "ShortVideos",
    "TuplePositions",
    "TupleSettings",
    "ViewSettings",
    "clip_frames",
    "longest_strides",
    "pick",
    "reach",
    "sample_tuples",
    "sample_views",
]

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
_Stride = TypeVar("_Stride", int, Ints)

ShortVideos = Literal["loop", "edge"]
"""What a clip shows past the end of its video: its beginning again, or its last frame."""

_GAP = 8
_PUBLISHED_STRIDE = 11


class ClipSettings(Settings):
    """What a clip is."""

    clip_frames: int = Field(default=16, ge=1, le=1024)
    """Frames in a clip (T)."""
    frame_stride: int = Field(default=1, ge=1, le=FASTEST)
    """Frames of the video from one frame of a clip to the next: 2 plays at double speed."""
    short: ShortVideos = "loop"
    """What a clip shows past the end of a video that is too short: loop, its beginning; edge, its last frame."""

    @property
    def reach(self) -> int:
        """Frames of the video from the first of a clip to its last."""
        return reach(self.clip_frames, self.frame_stride)


def _named_stride(value: Any, info: ValidationInfo) -> Any:
    if value == "published":
        return _PUBLISHED_STRIDE
    if value == "intended" and {"clip_frames", "frame_stride"} <= info.data.keys():
        return reach(int(info.data["clip_frames"]), int(info.data["frame_stride"])) + _GAP
    return value


class TupleSettings(ClipSettings):
    """How the clips of a PCL tuple lie in a video."""

    clip_stride: Annotated[int, BeforeValidator(_named_stride)] = Field(default=24, ge=1, le=2**20)
    """Frames from a clip's start to the next's; intended: 8 frames between clips (24); published: 11, overlapping."""
    remote_distance: int = Field(default=16, ge=0, le=2**20)
    """Frames at least between the tuple and the remote clip."""

    @property
    def span(self) -> int:
        """Frames from the first frame of the first clip to the last of the third."""
        return (TUPLE_VIEWS - 1) * self.clip_stride + self.reach

    @property
    def offsets(self) -> Ints:
        """[3] where the clips start, counted from the first."""
        return self.clip_stride * np.arange(TUPLE_VIEWS)


class ViewSettings(ClipSettings):
    """How independent views lie in a video."""

    views: int = Field(default=2, ge=1, le=64)
    """Clips a sample (V)."""
    min_distance: int = Field(default=0, ge=0, le=2**20)
    """Frames at least between the starts of any two views; as many as fit where a video is too short for that."""


@dataclass(frozen=True)
class TuplePositions:
    """Where the clips of B samples start.

    Attributes:
        start: [B] first frame of the first clip.
        remote: [B] first frame of the remote clip; 0 where there is no room.
        has_remote: [B] bool, whether the video has room for a remote clip on at least one side.
    """

    start: Ints
    remote: Ints
    has_remote: NDArray[np.bool_]


def reach(clip_frames: int, frame_stride: _Stride) -> _Stride:
    """Frames of the video from the first frame of a clip to its last."""
    return (clip_frames - 1) * frame_stride + 1


def sample_tuples(frames: Ints, draws: Floats, settings: TupleSettings, strides: Ints | None = None) -> TuplePositions:
    """Place a tuple in each video, uniformly over all places, and a remote clip uniformly over the room left.

        frame 0        start                                           n
              |  remote?  |----T----|  gap  |----T----|  gap  |----T----|   distance   |--remote?--|
                          '--clip_stride--'

    intended spacing      |0 ........ 15|        |24 ........ 39|        |48 ........ 63|
    published spacing     |0 ....... 15|
                                  |11 ...... 26|
                                         |22 ...... 37|                    (they overlap by 5 frames)

    Args:
        frames: [B] frame counts of the videos, each >= 1.
        draws: [B, 2] uniform numbers in [0, 1).
        settings: the tuple's shape.
        strides: [B, 3] frame strides of the clips; None: `settings.frame_stride`. Their starts stay as far apart.
    """
    span = (
        np.full(len(frames), settings.span)
        if strides is None
        else (settings.offsets + reach(settings.clip_frames, strides)).max(1)
    )
    start = pick(draws[:, 0], np.maximum(frames - span, 0) + 1)
    away = settings.reach + settings.remote_distance
    before = np.maximum(start - away + 1, 0)  # places for a remote clip that ends `distance` before the tuple
    first_after = start + span + settings.remote_distance
    after = np.maximum(frames - settings.reach - first_after + 1, 0)
    choice = pick(draws[:, 1], before + after)
    has_remote = before + after > 0
    remote = np.where(choice < before, choice, first_after + choice - before)
    return TuplePositions(start=start, remote=np.where(has_remote, remote, 0), has_remote=has_remote)


def sample_views(frames: Ints, draws: Floats, settings: ViewSettings, strides: Ints | None = None) -> Ints:
    """[B, V] starts of independent views, uniform over all placements that keep the distance.

        frame 0                                                        n
              |       |----view 2----|                                  |
              |                |----view 0----|                         |
              |                                      |----view 1----|   |
                      '-- >= --'------- >= ----------'   min_distance between starts

    Args:
        frames: [B] frame counts, each >= 1.
        draws: [B, V] uniform numbers in [0, 1).
        settings: how many, how long, how far apart.
        strides: [B, V] frame strides of the views; None: `settings.frame_stride`. The view of a sample that reaches
            furthest decides which starts are possible, so that all of them are alike.
    """
    views = settings.views
    span = settings.reach if strides is None else reach(settings.clip_frames, strides).max(1)
    room = np.maximum(frames - span, 0)
    if views == 1 or settings.min_distance == 0:
        return pick(draws, room[:, None] + 1)
    distance = np.minimum(settings.min_distance, room // (views - 1))
    # Starts at least d apart are distinct starts in a room that is (V - 1)(d - 1) smaller, spread out again by rank.
    places = room + 1 - (views - 1) * (distance - 1)
    chosen = np.empty((len(frames), 0), np.int64)
    picks = []
    for view in range(views):
        place = pick(draws[:, view], np.maximum(places - view, 1))
        for earlier in np.sort(chosen, axis=1).T:  # count only the places that are still free
            place = place + (place >= earlier)
        picks.append(place)
        chosen = np.stack(picks, axis=1)
    rank = np.argsort(np.argsort(chosen, axis=1), axis=1)
    apart = chosen + rank * (distance - 1)[:, None]
    # Without room for distinct starts the views are independent after all.
    return np.where(distance[:, None] > 0, apart, pick(draws, room[:, None] + 1))


def longest_strides(frames: Ints, offsets: Ints, settings: ClipSettings) -> Ints:
    """[B, V] by what whole factor each clip can play faster and still fit into its video, at least 1.

        offset
          |x..x..x..x|           a clip of T = 4 frames that starts `offset` after frame 0 has room for (T - 1) steps
        0                n       in n - 1 - offset frames

    Args:
        frames: [B] frame counts.
        offsets: [V] where the clips start, counted from the first.
        settings: T and the stride that counts as 1.
    """
    steps = max(settings.clip_frames - 1, 1) * settings.frame_stride
    longest: Ints = (frames[:, None] - 1 - offsets) // steps
    return np.maximum(longest, 1)


def clip_frames(starts: Ints, length: int, frames: Ints, strides: int | Ints = 1, short: ShortVideos = "loop") -> Ints:
    """[B, V, length] frame numbers of clips.

        a video of 5 frames, a clip of 8 from frame 2     loop   2 3 4 0 1 2 3 4
                                                          edge   2 3 4 4 4 4 4 4
        the same with stride 2                            loop   2 4 1 3 0 2 4 1

    Args:
        starts: [B, V].
        length: frames a clip (T).
        frames: [B] frame counts.
        strides: frames from one to the next, for all clips or [B, V].
        short: what is shown past the end.
    """
    steps = np.asarray(strides)[..., None] * np.arange(length)
    numbers: Ints = starts[..., None] + steps
    ends = frames[:, None, None]
    return numbers % ends if short == "loop" else np.minimum(numbers, ends - 1)


def pick(draws: Floats, places: Ints) -> Ints:
    """Uniform numbers in [0, 1) to whole ones in [0, places)."""
    return (draws * places).astype(np.int64)
