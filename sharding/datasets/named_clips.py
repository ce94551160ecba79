"""Clips that lists name without telling where they lie: found by their names, anywhere below a folder."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pclkd.sharding.common.errors import InputError
from pclkd.sharding.datasets.class_folders import source_name
from pclkd.sharding.datasets.dataset import Dataset, Video
from pclkd.sharding.datasets.names import group_number, printable, sample_key
from pclkd.sharding.datasets.parts import PartWord, assign_parts
from pclkd.sharding.datasets.video_files import count_suffixes, find_videos

__all__ = ["NamedClip", "add_clip", "match_names"]


@dataclass(frozen=True)
class NamedClip:
    """What a list tells about a clip.

    Attributes:
        label: name of its class.
        word: its part; None where nothing tells it.
        place: where in the lists it stands.
        group: name that clips of one source share; empty: none.
    """

    label: str
    word: PartWord | None
    place: str
    group: str = ""


def add_clip(clips: dict[str, NamedClip], name: str, clip: NamedClip) -> None:
    """Note a clip by its name; it may be listed twice, but not as two things.

    Raises:
        InputError: it is listed already, with another label or part.
    """
    other = clips.setdefault(name, clip)
    if (other.label, other.word) != (clip.label, clip.word):
        raise InputError(
            f"{clip.place}: clip {name} is {_shown(clip)} here but {_shown(other)} in {other.place}",
            remedy="remove one of the two rows",
        )


def _shown(clip: NamedClip) -> str:
    return f"{clip.label!r}{f' in {clip.word}' if clip.word else ''}"


def match_names(
    kind: str,
    root: str | Path,
    clips: Mapping[str, NamedClip],
    test_share: float = 0.0,
    *,
    classes: Sequence[str] = (),
    notes: tuple[str, ...] = (),
    expected: str = "{}.mp4",
) -> Dataset:
    """Find the clips below `root`, whatever their folders and suffixes are.

    `val` is the test part of split 1; where there are clips of `test` as well, they are the test part of split 2.

    Args:
        kind: name of the layout whose reader asks.
        root: path or URL of the folder of clips.
        clips: by file name without suffix.
        test_share: what to hold out where no clip has a word.
        classes: their names; the position is the label. The alphabet of those that occur where it is empty.
        notes: of the reader.
        expected: what a clip `{}` should be called, for messages.

    Raises:
        InputError: no such folder, none of the clips in it, or two of one name.
    """
    classes = classes or sorted({clip.label for clip in clips.values()})
    labels = {name: label for label, name in enumerate(classes)}
    videos: list[Video] = []
    words: list[PartWord | None] = []
    unlisted: list[str] = []
    missing = set(clips)
    listing = find_videos(root)
    for found in listing.videos:
        name = found.stem
        if clip := clips.get(name):
            missing.discard(name)
            words.append(clip.word)
            group = group_number(clip.group)
            videos.append(Video(found.path, printable(found.name), sample_key(name), labels[clip.label], group, {}))
        else:
            unlisted.append(printable(found.name))
    if not videos:
        raise InputError(
            f"none of the {len(clips)} clips of the lists is in {root}",
            remedy=f"give the folder of {expected.format(min(clips))} and the others",
        )
    if unlisted:
        notes += (f"{len(unlisted)} videos that no list names are left out: nothing tells their class",)
    dataset = Dataset(
        kind,
        source_name(root),
        tuple(map(printable, classes)),
        (),
        tuple(videos),
        tuple(sorted(expected.format(printable(name)) for name in missing)),
        tuple(unlisted),
        notes,
        other_files=count_suffixes(listing.others),
    )
    return assign_parts(dataset, words, test_share)
