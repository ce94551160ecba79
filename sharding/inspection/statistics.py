"""What a shard set holds, in figures: from the memory-mapped index columns, so that a million videos take seconds."""

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from pclkd.sharding.common.errors import InputError
from pclkd.sharding.shards.index import ShardIndex
from pclkd.sharding.shards.samples import read_notes

__all__ = ["Bin", "Spread", "Statistics", "measure_set"]

_CHUNK = 1 << 22
_BINS = 12
_LOOKED_AT = 64
_SAME_GAP_S = 1e-6


@dataclass(frozen=True)
class Spread:
    """Of some whole numbers: the smallest, the median, the 99th percentile, the largest, and the mean.

    The percentiles are numbers that occur: the smallest ones that half and 99 % of all do not exceed.
    """

    min: int
    median: int
    p99: int
    max: int
    mean: float


@dataclass(frozen=True)
class Bin:
    """How many videos have at least `start` and fewer than `stop` frames."""

    start: int
    stop: int
    videos: int


@dataclass(frozen=True)
class Statistics:
    """The figures of a shard set.

    Attributes:
        videos_per_class: by class name, in the order of the labels; classes without a video too.
        unlabelled: videos without a class.
        frames_per_video: their spread.
        lengths: histogram of the frames a video has; bins of equal width, the last one reaches to the longest.
        bytes_per_frame: of the stored JPEGs.
        frame_sizes: videos by stored "HEIGHTxWIDTH", in pixels, the most frequent first.
        fps: videos by frames a second, the most frequent first, among `fps_videos` that lie evenly over the set: the
            index does not hold it.
        fps_videos: how many videos were looked at for `fps`.
        variable_rate_videos: of the whole set, those whose frames do not follow each other evenly.
        quarantine: videos by why they were left out, numbers in the reason replaced by N; the most frequent first.
    """

    videos_per_class: dict[str, int]
    unlabelled: int
    frames_per_video: Spread
    lengths: tuple[Bin, ...]
    bytes_per_frame: Spread
    frame_sizes: dict[str, int]
    fps: dict[str, int]
    fps_videos: int
    variable_rate_videos: int
    quarantine: dict[str, int]


def measure_set(index: ShardIndex) -> Statistics:
    """Work out the figures of a shard set; shards may be missing or damaged."""
    labels = index.sample_label
    per_class = np.bincount(labels[labels >= 0], minlength=len(index.classes)).tolist()
    counts = np.diff(index.sample_frames)
    sizes, videos = np.unique(index.sample_sizes(np.arange(len(index))), axis=0, return_counts=True)
    frame_sizes = Counter(
        {f"{height}x{width}": count for (height, width), count in zip(sizes.tolist(), videos.tolist(), strict=True)}
    )
    looked_at = sorted({round(place) for place in np.linspace(0, len(index) - 1, min(_LOOKED_AT, len(index)))})
    fps = Counter(_rate(index, sample) for sample in looked_at)
    reasons = Counter(re.sub(r"\d+", "N", video.reason) for video in index.manifest.quarantined)
    return Statistics(
        videos_per_class=dict(zip(index.classes, per_class, strict=True)),
        unlabelled=int((labels < 0).sum()),
        frames_per_video=_spread(counts),
        lengths=_histogram(counts),
        bytes_per_frame=_spread(index.frame_length),
        frame_sizes=dict(frame_sizes.most_common()),
        fps=dict(fps.most_common()),
        fps_videos=len(looked_at),
        variable_rate_videos=sum(_uneven(index)),
        quarantine=dict(reasons.most_common()),
    )


def _rate(index: ShardIndex, sample: int) -> str:
    try:
        fps = float(read_notes(index, sample)["fps"])
    except (InputError, OSError):
        return "unreadable"  # the figures of a damaged set are wanted too
    return f"{fps:.5g}" if fps else "unknown"


def _uneven(index: ShardIndex) -> Iterator[bool]:
    """Tell of each video with times whether they are uneven; those of even ones are multiples of a constant."""
    if index.frame_time is not None:
        for start, stop in pairwise(index.sample_frames.tolist()):
            gaps = np.diff(index.frame_time[start:stop])
            yield len(gaps) > 1 and float(np.ptp(gaps)) > _SAME_GAP_S


def _spread(numbers: npt.NDArray[np.integer]) -> Spread:
    """Sum numbers up, none of them below 0.

    Raises:
        InputError: others, which no packer writes.
    """
    if numbers.min() < 0:
        remedy = "run 'shard-ucf101 verify', and pack the videos again"
        raise InputError(f"the index holds a length of {numbers.min()}", remedy=remedy)
    found, counts = _counted(numbers)
    reached = np.cumsum(counts)
    median, p99 = (int(found[np.searchsorted(reached, share * reached[-1])]) for share in (0.5, 0.99))
    mean = float(counts @ found.astype(np.float64)) / len(numbers)
    return Spread(int(found[0]), median, p99, int(found[-1]), round(mean, 2))


def _counted(numbers: npt.NDArray[np.integer]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return the numbers that occur, ascending, and how often each does.

    They are counted chunk by chunk: exact, and what can be hundreds of millions is not copied. Nor is it sorted, but
    for large numbers, which would need a count of each below them.
    """
    if numbers.max() > _CHUNK:
        seen: Counter[int] = Counter()
        for start in range(0, len(numbers), _CHUNK):
            values, times = np.unique(numbers[start : start + _CHUNK], return_counts=True)
            seen.update(dict(zip(values.tolist(), times.tolist(), strict=True)))
        table = np.array(sorted(seen.items()), dtype=np.int64)
        return table[:, 0], table[:, 1]
    counts = np.zeros(int(numbers.max()) + 1, dtype=np.int64)
    for start in range(0, len(numbers), _CHUNK):
        found = np.bincount(numbers[start : start + _CHUNK])
        counts[: len(found)] += found
    there = np.flatnonzero(counts)
    return there, counts[there]


def _histogram(counts: npt.NDArray[np.int64]) -> tuple[Bin, ...]:
    """Bins of a round width; the few very long videos share the last one, so that the others can be told apart."""
    lowest, highest = int(counts.min()), int(counts.max())
    usual = int(np.percentile(counts, 99))
    width = _round_up(max(1, -(-(usual + 1 - lowest) // _BINS)))
    first = lowest // width * width
    bins = max(1, -(-(usual + 1 - first) // width))
    edges = [first + width * number for number in range(bins)]
    inside = np.minimum((counts - first) // width, bins - 1)
    videos = np.bincount(inside, minlength=bins).tolist()
    stops = [*edges[1:], max(edges[-1] + width, highest + 1)]
    return tuple(Bin(start, stop, count) for start, stop, count in zip(edges, stops, videos, strict=True))


def _round_up(number: int) -> int:
    """Return the next of 1, 2, 5, 10, 20, 50, ..."""
    power = 1
    while True:
        for step in (1, 2, 5):
            if step * power >= number:
                return step * power
        power *= 10
