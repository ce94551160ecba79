"""Kinetics: tables `label,youtube_id,time_start,time_end,split[,is_cc]`, and clips `<id>_<start>_<end>.mp4`.

The clips may lie flat, in class folders, or both below part folders: they are found by their names, and only the
tables tell class and part. Beside the tables may lie the lists of Mini-Kinetics-200, a YouTube id a line
(https://github.com/s9xie/Mini-Kinetics-200): then their clips alone are taken.
"""

import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from pclkd.sharding.common import storage
from pclkd.sharding.common.errors import InputError
from pclkd.sharding.datasets.dataset import Dataset, Span
from pclkd.sharding.datasets.layout import Layout
from pclkd.sharding.datasets.list_files import is_list_file, list_names, numbered_lines, read_header, table_rows
from pclkd.sharding.datasets.named_clips import NamedClip, add_clip, match_names
from pclkd.sharding.datasets.parts import PartWord, part_word

__all__ = ["LAYOUT", "read_kinetics"]

_COLUMNS = ("youtube_id", "time_start", "time_end")
_GET_THEM = "use a table with the columns label,youtube_id,time_start,time_end,split or the folder of such tables"
_MINI_LIST = re.compile(r"(train|val)_ytid_list\.txt")


def read_kinetics(root: str | Path, splits: str | Path, test_share: float = 0.0) -> Dataset:
    """Read the table `splits`, or all tables in that folder, and match them to the clips below `root`.

    Labels follow the alphabet. Rows without a label (the hidden test sets of early releases) are left out, and so are
    clips that no row names. The group is told by the YouTube id. `val` is the test part of split 1; where there are
    rows of `test` as well, they are the test part of split 2. A clip that is not there is cut from the whole video,
    `<id>.mp4`, where that is.

    Raises:
        InputError: anything wrong with the folder or the tables.
    """
    clips: dict[str, NamedClip] = {}
    unlabelled = passed_over = 0
    chosen = _mini_kinetics(splits)
    for url in _tables(splits):
        for youtube_id, name, clip in _rows(url):
            if not clip.label:
                unlabelled += 1
            elif chosen and (clip.word, youtube_id) not in chosen:
                passed_over += 1
            else:
                add_clip(clips, name, clip)
    if not clips:
        raise InputError(f"{splits} holds no row with a label", remedy=_GET_THEM)
    notes: tuple[str, ...] = (f"{unlabelled} rows without a label are left out",) if unlabelled else ()
    if chosen:
        notes += (f"Mini-Kinetics: {len(clips)} rows that its lists name are taken, {passed_over} are not",)
    return match_names("kinetics", root, clips, test_share, notes=notes)


def _mini_kinetics(splits: str | Path) -> set[tuple[PartWord | None, str]]:
    """Return the part and YouTube id of each clip of Mini-Kinetics, where its lists lie beside the tables."""
    if is_list_file(splits):
        return set()
    return {
        (part_word(match[1]), line)
        for name in list_names(splits, _GET_THEM)
        if (match := _MINI_LIST.fullmatch(name))
        for _, line in numbered_lines(storage.join(splits, name), _GET_THEM)
    }


def _tables(splits: str | Path) -> list[str]:
    if is_list_file(splits):
        return [str(splits)]
    # Other tables lie beside them, such as the list of the labels.
    names = [name for name in list_names(splits, _GET_THEM) if is_list_file(name)]
    tables = [url for url in (storage.join(splits, name) for name in names) if "youtube_id" in read_header(url)]
    if not tables:
        raise InputError(f"no table with a column youtube_id in {splits}", remedy=_GET_THEM)
    return tables


def _rows(url: str) -> Iterator[tuple[str, str, NamedClip]]:
    """Yield YouTube id, name of the clip's file without suffix, and what else each row tells."""
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
        label, group = row.get("label", ""), f"youtube {row['youtube_id']}"
        clip = NamedClip(label, word or of_file, place, group, (row["youtube_id"],), Span(start, end))
        yield row["youtube_id"], f"{row['youtube_id']}_{start:06d}_{end:06d}", clip


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
