"""Pictures of what a shard set holds: one video, or one frame of every class."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np
from PIL import Image

from pclkd.sharding.common.errors import InputError
from pclkd.sharding.common.pictures import WIDEST, Frame, contact_sheet, write_gif, write_png
from pclkd.sharding.shards.index import ShardIndex
from pclkd.sharding.shards.samples import decoded_frames, find_sample, read_notes

__all__ = ["LONGEST_GIF", "preview_classes", "preview_video"]

LONGEST_GIF = 500  # frames
_WIDEST_GIF = 480  # pixels
_USUAL_FPS = 25.0
_UNLABELLED = 24  # videos on the sheet of a set without classes

Item = TypeVar("Item")


def preview_video(index: ShardIndex, key: str, out: Path, *, frames: int) -> tuple[Path, Path]:
    """Write `<key>.png`, a sheet of evenly spaced frames, and `<key>.gif`, the video at its own speed.

    The GIF ends after 500 frames and is at most 480 pixels wide. A video of unknown speed plays at 25 frames/s.

    Args:
        index: the shard set.
        key: name of the sample.
        out: folder to write to; it is made.
        frames: how many frames the sheet shows, at most.

    Raises:
        InputError: no such video, a damaged shard, or `out` cannot be a folder.
    """
    sample = find_sample(index, key)
    notes = read_notes(index, sample)
    count = index.frame_count(sample)
    picked = sorted({round(number) for number in np.linspace(0, count - 1, min(frames, count)).tolist()})
    rows = _rows(_small_frames(index, sample, picked, WIDEST), at_least=6)
    captions = _rows([f"frame {number}" for number in picked], at_least=6)
    sheet = contact_sheet(
        rows, [""] * len(rows), frame_captions=captions, title=key, subtitle=_told(index, sample, float(notes["fps"]))
    )
    _make(out)
    write_png(out / f"{key}.png", sheet)
    playing = _small_frames(index, sample, range(min(count, LONGEST_GIF)), _WIDEST_GIF)
    write_gif(out / f"{key}.gif", playing, float(notes["fps"]) or _USUAL_FPS)
    return out / f"{key}.png", out / f"{key}.gif"


def preview_classes(index: ShardIndex, out: Path) -> Path:
    """Write `classes.png`: the middle frame of the first video of each class, or of some videos that have no labels.

    Raises:
        InputError: a damaged shard, or `out` cannot be a folder.
    """
    if index.classes:
        labels, samples, counts = np.unique(index.sample_label, return_index=True, return_counts=True)
        pairs = zip(labels.tolist(), counts.tolist(), strict=True)
        texts = [f"{index.classes[label]} ({count})" for label, count in pairs]
        title = f"{len(labels)} classes of {index.manifest.source}"
        subtitle = "the middle frame of each class's first video; in brackets how many videos it has"
    else:
        samples = np.unique(np.linspace(0, len(index) - 1, _UNLABELLED).round().astype(np.int64))
        texts = [index.key(sample) for sample in samples.tolist()]
        title = f"{len(samples)} of {len(index)} videos of {index.manifest.source}, without labels"
        subtitle = "the middle frame of each"
    pictures = []
    for sample in samples.tolist():
        pictures += _small_frames(index, sample, [index.frame_count(sample) // 2], WIDEST)
    rows = _rows(pictures, at_least=6)
    sheet = contact_sheet(
        rows, [""] * len(rows), frame_captions=_rows(texts, at_least=6), title=title, subtitle=subtitle
    )
    _make(out)
    write_png(out / "classes.png", sheet)
    return out / "classes.png"


def _small_frames(index: ShardIndex, sample: int, numbers: Sequence[int], widest: int) -> list[Frame]:
    """Return frames no wider than `widest`, made smaller one by one: large ones do not all fit into memory at once."""
    height, width = index.sample_sizes([sample])[0].tolist()
    frames = decoded_frames(index, sample, numbers)
    if width <= widest:
        return list(frames)
    size = (widest, max(1, round(height * widest / width)))
    return [np.asarray(Image.fromarray(frame).resize(size, Image.Resampling.LANCZOS)) for frame in frames]


def _told(index: ShardIndex, sample: int, fps: float) -> str:
    first, last = index.sample_frames[sample : sample + 2].tolist()
    stored = int(index.frame_length[first:last].sum())
    height, width = index.sample_sizes(np.array([sample]))[0].tolist()
    count = last - first
    speed = f"{fps:.4g} frames/s ({count / fps:.1f} s)" if fps else "unknown speed"
    size = f"{stored / 1e6:.2f} MB" if stored >= 1e6 else f"{stored / 1e3:.1f} kB"
    label = int(index.sample_label[sample])
    return (
        f"{f'class {index.classes[label]}' if label >= 0 else 'no label'} · {count} frames · {speed} · "
        f"{height}x{width} pixels · {size}, {stored / count / 1e3:.1f} kB a frame"
    )


def _rows(items: list[Item], *, at_least: int) -> list[list[Item]]:
    """Break items into rows: a sheet of many becomes wider as well as longer."""
    columns = max(at_least, math.ceil(math.sqrt(1.2 * len(items))))
    return [items[start : start + columns] for start in range(0, len(items), columns)]


def _make(out: Path) -> None:
    try:
        out.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise InputError(f"{out} is not a folder", remedy="give another place for the pictures") from None
