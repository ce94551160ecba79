"""The parts of a split: from words in tables and folders, or held out where nobody tells them."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Literal

from pclkd.sharding.common.errors import InputError
from pclkd.sharding.datasets.dataset import Dataset, Part, Video

__all__ = ["PartWord", "assign_parts", "hold_out", "part_word"]

PartWord = Literal["train", "val", "test"]

_WORDS: Mapping[str, PartWord] = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validate": "val",
    "validation": "val",
    "test": "test",
    "testing": "test",
}


def part_word(text: str) -> PartWord | None:
    """Return the part that a word names, whatever its case; None for any other word."""
    return _WORDS.get(text.strip().lower())


def assign_parts(dataset: Dataset, words: Sequence[PartWord | None], test_share: float) -> Dataset:
    """Give each video its parts by its word (None: in no part), or hold out a share where there is no word at all.

    A set with one held-out part, `val` or `test`, has one split. With both it has two that share the train part: split
    1 tests on `val`, split 2 on `test`.

    Args:
        dataset: whose videos have no parts yet.
        words: of each video.
        test_share: what to hold out where there is no word.

    Returns:
        The data set with splits, and notes for the user ahead of its own.

    Raises:
        InputError: a test share although the data set has parts of its own, or one out of range.
    """
    if not any(words):
        videos = hold_out(dataset.videos, test_share)
        notes = (_held_out_note(test_share), *dataset.notes)
        return replace(dataset, videos=videos, numbers=(1,), notes=notes, parts_told=bool(test_share))
    if test_share:
        raise InputError(
            f"a test share of {test_share} for a data set with parts of its own",
            remedy="leave --test-share out, or take the parts out of the table or the folders",
        )
    meaning: dict[PartWord, dict[int, Part]] = {"train": {1: "train"}, "val": {1: "test"}, "test": {1: "test"}}
    told: tuple[str, ...] = ()
    if {"val", "test"} <= set(words):
        meaning = {"train": {1: "train", 2: "train"}, "val": {1: "test"}, "test": {2: "test"}}
        told = ("split 1 tests on val, split 2 on test",)
    elif "val" in words:
        told = ("split 1 tests on val",)
    pairs = zip(dataset.videos, words, strict=True)
    videos = tuple(replace(video, parts=dict(meaning[word]) if word else {}) for video, word in pairs)
    return replace(dataset, videos=videos, numbers=tuple(sorted(meaning["train"])), notes=(*told, *dataset.notes))


def _held_out_note(share: float) -> str:
    if share:
        return f"nothing tells the parts of a split: {share:g} of the groups or videos is the test part of split 1"
    return "nothing tells the parts of a split: all videos are the train part of split 1 (--test-share holds some out)"


def hold_out(videos: Sequence[Video], share: float) -> tuple[Video, ...]:
    """Make split 1 of videos that have none: a share of them is its test part, the rest its train part.

    Groups stay whole: the groups in the order of a hash of their number give the first of them to the test part. Videos
    without a group are dealt class by class in the order of a hash of their keys. Of two or more such units at least
    one goes to each part. So the split depends on the names alone.

    Args:
        videos: the videos; what parts they have is forgotten.
        share: 0 (no test part) to 1, exclusive.

    Raises:
        InputError: `share` is out of range.
    """
    if not 0 <= share < 1:
        raise InputError(f"a test share of {share}", remedy="use 0 (no test part) up to, but not including, 1")
    # Groups are dealt all together, because a group may hold videos of several classes.
    units: dict[int, dict[str, list[Video]]] = {}
    for video in videos:
        stratum, unit = (-1, str(video.group)) if video.group >= 0 else (video.label, video.key)
        units.setdefault(stratum, {}).setdefault(unit, []).append(video)
    tested: set[str] = set()
    for members in units.values():
        order = sorted(members, key=lambda unit: hashlib.sha256(f"hold-out {unit}".encode()).digest())
        count = min(len(order) - 1, max(1, int(share * len(order) + 0.5))) if share else 0
        tested.update(video.key for unit in order[:count] for video in members[unit])
    return tuple(replace(video, parts={1: "test" if video.key in tested else "train"}) for video in videos)
