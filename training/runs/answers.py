"""Which test videos a run told right, a line an evaluation, so that runs can be held against each other video by video.

    {"epoch": 4, "step": 48, "val/linear_top1_pct": ["110."], "val/pretext_top1_pct": ["1100", "10.0"]}

By the name of each accuracy, a string a time that the videos were asked, with a character a test video of the split, in
the order of its list: 1 right, 0 wrong, "." left out (damaged, or without a label).
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pclkd.sharding.common.errors import InputError
from pclkd.training.runs.run_folder import append_line, read_lines

__all__ = ["ANSWERS_NAME", "Answers", "append_answers", "as_marks", "read_answers"]

ANSWERS_NAME = "answers.jsonl"
_PLACES = ("epoch", "step")


class Answers(NamedTuple):
    """How often each of V test videos was told right, and asked; [V] float64 each."""

    right: NDArray[np.float64]
    asked: NDArray[np.float64]


def as_marks(hits: Sequence[bool], videos: Sequence[int], count: int) -> list[str]:
    """Write answers as strings of marks.

    Args:
        hits: [N] whether each answer is right.
        videos: [N] which video each is about, from 0.
        count: V, of all test videos.
    """
    marks: list[bytearray] = []
    asked: Counter[int] = Counter()
    for hit, video in zip(hits, videos, strict=True):
        if asked[video] == len(marks):
            marks.append(bytearray(b"." * count))
        marks[asked[video]][video] = b"01"[hit]
        asked[video] += 1
    return [line.decode() for line in marks]


def append_answers(run: Path, epoch: int, step: int, answers: Mapping[str, Sequence[str]]) -> None:
    """Add what an evaluation found to the run's folder."""
    append_line(run / ANSWERS_NAME, {"epoch": epoch, "step": step, **answers})


def read_answers(run: Path) -> dict[int, dict[str, Answers]]:
    """The answers of each epoch by the name of the accuracy; of an epoch that was done twice, the later ones.

    Raises:
        InputError: the file holds what no run writes.
    """
    found: dict[int, dict[str, Answers]] = {}
    for place, line in read_lines(run / ANSWERS_NAME):
        if not isinstance(line, dict) or type(line.get("epoch")) is not int:
            raise _foreign(place)
        found[line["epoch"]] = {name: _counted(place, marks) for name, marks in line.items() if name not in _PLACES}
    return found


def _counted(place: str, marks: Any) -> Answers:
    strings = isinstance(marks, list) and marks and all(isinstance(line, str) for line in marks)
    if not strings or len({len(line) for line in marks}) != 1 or not set("".join(marks)) <= set("01."):
        raise _foreign(place)
    table = np.array([list(line.encode("ascii")) for line in marks])  # [times, V]
    return Answers((table == ord("1")).sum(0).astype(float), (table != ord(".")).sum(0).astype(float))


def _foreign(place: str) -> InputError:
    return InputError(
        f"{place} is no line of answers", remedy="restore the file, or delete it: intervals then go without"
    )
