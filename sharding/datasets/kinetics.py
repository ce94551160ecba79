"""Kinetics: tables `label,youtube_id,time_start,time_end,split[,is_cc]`, and clips `<id>_<start>_<end>.mp4`.

The clips may lie flat, in class folders, or both below part folders: they are found by their names, and only the
tables tell class and part.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from pclkd.sharding.common import storage
from pclkd.sharding.common.errors import InputError
from pclkd.sharding.datasets.class_folders import source_name
from pclkd.sharding.datasets.dataset import Dataset, Video
from pclkd.sharding.datasets.layout import Layout
from pclkd.sharding.datasets.list_files import is_list_file, list_names, read_header, table_rows
from pclkd.sharding.datasets.names import group_number, printable, sample_key
from pclkd.sharding.datasets.parts import PartWord, assign_parts, part_word
from pclkd.sharding.datasets.video_files import count_suffixes, find_videos

__all__ = ["LAYOUT", "read_kinetics"]

_COLUMNS = ("youtube_id", "time_start", "time_end")
_GET_THEM = "use a table with the columns label,youtube_id,time_start,time_end,split or the folder of such tables"


@dataclass(frozen=True)
class _Clip:
    """What a row tells about a clip; `word` is None where neither the row nor the table's name tells the part."""

    label: str
    youtube_id: str
    word: PartWord | None
    place: str


def read_kinetics(root: str | Path, splits: str | Path, test_share: float = 0.0) -> Dataset:
    """Read the table `splits`, or all tables in that folder, and match them to the clips below `root`.

    Labels follow the alphabet. Rows without a label (the hidden test sets of early releases) are left out, and so are
    clips that no row names. The group is told by the YouTube id. `val` is the test part of split 1; where there are
    rows of `test` as well, they are the test part of split 2.

    Raises:
        InputError: anything wrong with the folder or the tables.
    """
    clips, unlabelled = _read_tables(splits)
    classes = sorted({clip.label for clip in clips.values()})
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
            group = group_number(f"youtube {clip.youtube_id}")
            relative = printable(found.name)
            videos.append(Video(found.path, relative, sample_key(name), labels[clip.label], group, {}))
        else:
            unlisted.append(printable(found.name))
    if not videos:
        raise InputError(
            f"none of the {len(clips)} clips in {splits} is in {root}",
            remedy=f"give the folder of files such as {min(clips)}.mp4 (id, start and end in six digits)",
        )
    notes: tuple[str, ...] = (f"{unlabelled} rows without a label are left out",) if unlabelled else ()
    if unlisted:
        notes += (f"{len(unlisted)} videos that no row names are left out: nothing tells their class",)
    dataset = Dataset(
        "kinetics",
        source_name(root),
        tuple(map(printable, classes)),
        (),
        tuple(videos),
        tuple(sorted(f"{printable(name)}.mp4" for name in missing)),
        tuple(unlisted),
        notes,
        other_files=count_suffixes(listing.others),
    )
    return assign_parts(dataset, words, test_share)


def _read_tables(splits: str | Path) -> tuple[dict[str, _Clip], int]:
    """Return the clips by file name without suffix, and how many rows had no label."""
    clips: dict[str, _Clip] = {}
    unlabelled = 0
    for url in _tables(splits):
        for clip, name in _rows(url):
            if not clip.label:
                unlabelled += 1
                continue
            other = clips.setdefault(name, clip)
            if (other.label, other.word) != (clip.label, clip.word):
                raise InputError(
                    f"{clip.place}: clip {name} is {_shown(clip)} here but {_shown(other)} in {other.place}",
                    remedy="remove one of the two rows",
                )
    if not clips:
        raise InputError(f"{splits} holds no row with a label", remedy=_GET_THEM)
    return clips, unlabelled


def _shown(clip: _Clip) -> str:
    return f"{clip.label!r}{f' in {clip.word}' if clip.word else ''}"


def _tables(splits: str | Path) -> list[str]:
    if is_list_file(splits):
        return [str(splits)]
    # Other tables lie beside them, such as the list of the labels.
    names = [name for name in list_names(splits, _GET_THEM) if is_list_file(name)]
    tables = [url for url in (storage.join(splits, name) for name in names) if "youtube_id" in read_header(url)]
    if not tables:
        raise InputError(f"no table with a column youtube_id in {splits}", remedy=_GET_THEM)
    return tables


def _rows(url: str) -> Iterator[tuple[_Clip, str]]:
    """Yield what each row tells, and the name of the clip's file without suffix."""
    named = re.split(r"[^a-z]+", PurePosixPath(url).stem.lower())
    of_file = next((word for word in map(part_word, named) if word), None)
    for place, row in table_rows(url, _GET_THEM):
        if absent := sorted(set(_COLUMNS) - row.keys()):
            raise InputError(f"{url} has no column {absent[0]!r}", remedy=_GET_THEM)
        if not row["youtube_id"] or "/" in row["youtube_id"]:
            raise InputError(f"{place}: {row['youtube_id']!r} is no YouTube id", remedy="mend or remove the row")
        word = part_word(row.get("split", ""))
        if row.get("split") and word is None:
            raise InputError(f"{place}: unknown split {row['split']!r}", remedy="use train, val or test")
        start, end = (_seconds(row[column], column, place) for column in ("time_start", "time_end"))
        clip = _Clip(row.get("label", ""), row["youtube_id"], word or of_file, place)
        yield clip, f"{row['youtube_id']}_{start:06d}_{end:06d}"


def _seconds(text: str, column: str, place: str) -> int:
    if not re.fullmatch(r"\d{1,6}(\.0*)?", text, re.ASCII):
        raise InputError(f"{place}: {column} is {text!r}", remedy="write whole seconds, such as 12")
    return int(text.partition(".")[0])


LAYOUT = Layout(
    "kinetics",
    read_kinetics,
    "a table label,youtube_id,time_start,time_end,split or the folder of such tables",
    columns=_COLUMNS,
    video_name=re.compile(r"[\w-]{11}_\d{6}_\d{6}", re.ASCII),
)
