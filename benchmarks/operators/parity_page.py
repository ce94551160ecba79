"""docs/augmentation.md's table and pictures.

    python -m pclkd.benchmarks.operators.parity_page SHARDS OUT

prints the error of every augmentation operator against torchvision over frames of SHARDS, and writes to OUT
augmentation-operators.png (both side by side, and their difference) and augmentation-hue.png (two ways to turn hue).
"""

import colorsys
import dataclasses
import io
from pathlib import Path

import click
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pclkd.pipeline.pixels.parity import OPERATORS, ClipJpegs, Operator, Way, decoded, measure, reference
from pclkd.pipeline.reading.reader import FrameReader
from pclkd.sharding.common.pictures import contact_sheet, write_png
from pclkd.sharding.shards.index import ShardIndex

__all__ = ["frames_of", "main"]

_CLIPS, _FRAMES = 16, 8
_FUSED = Way("fused")
_TURNS = (-36.0, -18.0, 18.0, 36.0)
_AMPLIFIED = 8
Levels = NDArray[np.uint8]


@click.command()
@click.argument("shards", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.argument("out", type=click.Path(exists=True, file_okay=False, path_type=Path))
def main(shards: Path, out: Path) -> None:
    """Measure and show how far the augmentation is from torchvision's."""
    index = ShardIndex.open(shards)
    size = index.smallest_frame
    crop = min(112, min(size) // 8 * 7 // 2 * 2)
    clips = frames_of(index)
    for line in _table(clips, size, crop):
        click.echo(line)
    write_png(out / "augmentation-operators.png", _operators(clips[:4], size, crop))
    write_png(out / "augmentation-hue.png", _hues(clips[:1], size, crop))


def frames_of(index: ShardIndex) -> list[list[NDArray[np.uint8]]]:
    """Frames evenly over up to 16 videos of the smallest size."""
    samples = np.arange(len(index))
    samples = samples[(index.sample_sizes(samples) == np.array(index.smallest_frame)).all(axis=1)]
    chosen = samples[np.linspace(0, len(samples) - 1, min(_CLIPS, len(samples))).astype(int)].tolist()
    reader = FrameReader(index)
    clips = [reader.read(s, np.linspace(0, index.frame_count(s) - 1, _FRAMES).astype(np.int64)) for s in chosen]
    reader.close()
    return clips


def _table(clips: ClipJpegs, size: tuple[int, int], crop: int) -> list[str]:
    ways = {colours: measure(clips, size, crop, Way(colours)) for colours in ("graph", "fused")}
    lines = [
        f"{len(clips)} clips of {len(clips[0])} frames, {size[0]}x{size[1]} stored, cropped to {crop}x{crop}",
        "",
        "| operator | DALI mean | 99 % | max | fused mean | 99 % | max |",
        "|---|---|---|---|---|---|---|",
    ]
    for name in OPERATORS:
        figures = [f"{value:.2f}" for way in ways.values() for value in dataclasses.astuple(way[name])]
        lines.append(f"| {name} | {' | '.join(figures)} |")
    return lines


def _operators(clips: ClipJpegs, size: tuple[int, int], crop: int) -> Image.Image:
    names = ["scale-jittered crop", "brightness", "contrast", "saturation", "hue", "grayscale", "blur"]
    plain = decoded(clips, size, crop, _FUSED, OPERATORS["crop"])[-1, 0]
    rows = []
    for name in names:
        ours, theirs = (
            levels[-1, 0]
            for levels in (
                decoded(clips, size, crop, _FUSED, OPERATORS[name]),
                reference(clips, size, crop, OPERATORS[name]),
            )
        )
        difference = 255 - _AMPLIFIED * np.abs(ours - theirs)
        rows.append([_levels(plain), _levels(ours), _levels(theirs), _levels(difference)])
    texts = ["cropped", "here", "torchvision", f"difference x {_AMPLIFIED}"]
    return contact_sheet(
        rows,
        [_describe(name, OPERATORS[name]) for name in names],
        frame_captions=[texts] * len(rows),
        title="Augmentation operators beside torchvision's",
        subtitle="Contrast and hue differ by design: mid-grey instead of the frame's mean, YIQ instead of HSV.",
    )


def _hues(clips: ClipJpegs, size: tuple[int, int], crop: int) -> Image.Image:
    rows, captions = [], []
    for what, jpeg in (("colour wheel", _wheel(size, crop)), ("frame", clips[0][0])):
        turned = dataclasses.replace(OPERATORS["hue"], changes={"hue": list(_TURNS)})
        same = [[jpeg]] * len(_TURNS)
        plain = decoded(same[:1], size, crop, _FUSED, OPERATORS["crop"])[0]
        for way, levels in (
            ("here: a turn in YIQ, luma stays", decoded(same, size, crop, _FUSED, turned)),
            ("torchvision: a turn in HSV, luma changes", reference(same, size, crop, turned)),
        ):
            rows.append([_levels(frame) for frame in (plain[0], *levels[:, 0])])
            change = np.abs(_luma(levels[:, 0]) - _luma(plain)).mean()
            captions.append(f"{what}, {way} (by {change:.1f} levels in the mean)")
    texts = ["as it is", *(f"{turn / 360:+.2f} turns" for turn in _TURNS)]
    return contact_sheet(rows, captions, frame_captions=[texts] * len(rows), title="Two ways to turn hue")


def _wheel(size: tuple[int, int], crop: int) -> Levels:
    """A JPEG of `size` with all hues and saturations in its middle."""
    y, x = np.mgrid[: size[0], : size[1]] - (np.array(size).reshape(2, 1, 1) - 1) / 2
    radius = np.minimum(np.hypot(y, x) / (crop / 2), 1)
    hue = np.arctan2(y, x) / (2 * np.pi) % 1
    rgb = np.vectorize(colorsys.hsv_to_rgb)(hue, radius, 0.9)
    pixels = np.rint(255 * np.stack(rgb, axis=-1)).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=95, subsampling=0)
    return np.frombuffer(buffer.getvalue(), np.uint8)


def _levels(values: NDArray[np.float64]) -> Levels:
    return np.rint(values).clip(0, 255).astype(np.uint8)


def _luma(levels: NDArray[np.float64]) -> NDArray[np.float64]:
    luma: NDArray[np.float64] = levels @ np.array([0.299, 0.587, 0.114])
    return luma


def _describe(name: str, operator: Operator) -> str:
    values = [f"{value[-1]:g}" if key == name else f"{key} {value[-1]:g}" for key, value in operator.changes.items()]
    return f"{name} {', '.join(values)}"


if __name__ == "__main__":
    main()
