"""What every reader of a data set gives: its classes, its splits, and its videos."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal

from pclkd.sharding.common.errors import InputError

__all__ = ["NO_LABEL", "Dataset", "Part", "Span", "Video"]

Part = Literal["train", "test"]
NO_LABEL = -1


@dataclass(frozen=True, order=True)
class Span:
    """A stretch of a video: from `start` up to, but not including, `end`, in seconds or in frames, counted from 0."""

    start: float
    end: float
    unit: Literal["s", "frames"] = "s"

    def at(self, number: int, time: float) -> float:
        """Return the place of a frame, by its number and its time in seconds, in the unit of the span."""
        return time if self.unit == "s" else number

    @property
    def tag(self) -> str:
        """What tells it from other spans of a video in a key: milliseconds or frames."""
        scale = 1000 if self.unit == "s" else 1
        return f"{round(self.start * scale)}-{round(self.end * scale)}{'ms' if self.unit == 's' else 'f'}"

    def __str__(self) -> str:
        return f"{self.start:g}-{self.end:g} {self.unit}"


@dataclass(frozen=True)
class Video:
    """One video: a file, a folder of frames, or a span of either.

    Attributes:
        path: where it is: a local path, or a URL that fsspec reads.
        relative: its name in the data set (`Class/file.avi`), as printable text.
        key: its name in the shards, without dots or other characters that tar readers trip over.
        label: 0-based class, or `NO_LABEL`.
        group: number that clips of one source share, -1 where nothing tells it.
        parts: its part in each split that names it.
        span: what of the file it is; None: all.
    """

    path: str
    relative: str
    key: str
    label: int
    group: int
    parts: dict[int, Part]
    span: Span | None = None

    @property
    def shown(self) -> str:
        """Its name for people: that in the data set, and the span."""
        return f"{self.relative} {self.span}" if self.span else self.relative


@dataclass(frozen=True)
class Dataset:
    """The videos found, sorted by name, and where they and the lists disagree.

    Attributes:
        kind: name of the layout that it was read as.
        source: name of the folder or table the videos came from, without its path.
        classes: class names; the position is the label. None where the videos have no labels.
        numbers: the splits, ascending.
        videos: what can be packed.
        missing: listed videos that are not there.
        unlisted: videos that no list names; packed in no part where the folder tells the class, else left out.
        notes: what the reader decided and the user should know, a sentence each.
        parts_told: whether something tells the parts; else all videos are the train part of split 1.
        other_files: how many files lie where videos are taken from and are none, by suffix, see `count_suffixes`.

    Raises:
        InputError: two videos would share a key (keys that differ only in case count as one), or two classes a name.
    """

    kind: str
    source: str
    classes: tuple[str, ...]
    numbers: tuple[int, ...]
    videos: tuple[Video, ...]
    missing: tuple[str, ...]
    unlisted: tuple[str, ...]
    notes: tuple[str, ...] = ()
    parts_told: bool = True
    other_files: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse keys and classes that are not unique."""
        _refuse_shared_keys(self.videos)
        if len(set(self.classes)) < len(self.classes):
            twice = next(name for name in self.classes if self.classes.count(name) > 1)
            raise InputError(f"the class {twice!r} is named twice", remedy="give the classes different names")

    def parts(self, number: int) -> dict[Part, int]:
        """Count the videos of each part of a split."""
        told = [video.parts.get(number) for video in self.videos]
        return {"train": told.count("train"), "test": told.count("test")}


def _refuse_shared_keys(videos: Iterable[Video]) -> None:
    owners: dict[str, Video] = {}
    for video in videos:
        # On disks that ignore case one of two such samples would overwrite the other when a shard is unpacked.
        other = owners.setdefault(video.key.casefold(), video)
        if other is not video:
            both = f"the key {video.key!r}" if other.key == video.key else f"a key but for case, {video.key!r}"
            raise InputError(
                f"{other.shown} and {video.shown} would share {both}",
                remedy="rename or remove one of them (in the lists too)",
            )
