"""Clips that lists name without telling where they lie: found by their names, anywhere below a folder."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pclkd.sharding.common.errors import InputError
from pclkd.sharding.datasets.class_folders import source_name
from pclkd.sharding.datasets.dataset import Dataset, Span, Video
from pclkd.sharding.datasets.names import group_number, printable, sample_key
from pclkd.sharding.datasets.parts import PartWord, assign_parts
from pclkd.sharding.datasets.video_files import FoundVideo, count_suffixes, find_videos

__all__ = ["NamedClip", "add_clip", "match_names"]


@dataclass(frozen=True)
class NamedClip:
    """What a list tells about a clip.

    Attributes:
        label: name of its class.
        word: its part; None where nothing tells it.
        place: where in the lists it stands.
        group: name that clips of one source share; empty: none.
        sources: what the longer video that it can be cut from may be called, without suffix.
        span: where it lies in there.
    """

    label: str
    word: PartWord | None
    place: str
    group: str = ""
    sources: tuple[str, ...] = ()
    span: Span | None = None


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
    """Find the clips below `root`, whatever their folders and suffixes are, or the longer videos to cut them from.

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
    taken: list[tuple[FoundVideo, str, Span | None]] = []
    unlisted: list[str] = []
    listing = find_videos(root)
    whole = {found.stem for found in listing.videos}
    spans: dict[str, list[str]] = {}
    for name, clip in clips.items():
        if name not in whole:
            for source in clip.sources:
                spans.setdefault(source, []).append(name)
    for found in listing.videos:
        if found.stem in clips:
            taken.append((found, found.stem, None))
        elif inside := spans.get(found.stem):
            taken += [(found, name, clips[name].span) for name in inside]
        else:
            unlisted.append(printable(found.name))
    videos = tuple(
        Video(
            found.path,
            printable(found.name),
            sample_key(name),
            labels[clips[name].label],
            group_number(clips[name].group),
            {},
            span,
        )
        for found, name, span in taken
    )
    missing = clips.keys() - {name for _, name, _ in taken}
    if not videos:
        first = min(clips)
        whole_too = f", or of the videos that they are cut from, {clips[first].sources[0]}.mp4" if spans else ""
        raise InputError(
            f"none of the {len(clips)} clips of the lists is in {root}",
            remedy=f"give the folder of {expected.format(first)} and the others{whole_too}",
        )
    if cut := sum(span is not None for _, _, span in taken):
        notes += (f"{cut} clips are cut from {len({found for found, _, span in taken if span})} longer videos",)
    if unlisted:
        notes += (f"{len(unlisted)} videos that no list names are left out: nothing tells their class",)
    dataset = Dataset(
        kind,
        source_name(root),
        tuple(map(printable, classes)),
        (),
        videos,
        tuple(sorted(expected.format(printable(name)) for name in missing)),
        tuple(unlisted),
        notes,
        other_files=count_suffixes(listing.others),
    )
    return assign_parts(dataset, [clips[name].word for _, name, _ in taken], test_share)
