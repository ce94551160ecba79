"""Film strips: a clip as a row of frames, as plain pixels, as a picture in a page, with what the network attends to."""

import base64
import html
import io
from collections.abc import Sequence

import matplotlib
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image

from pclkd.pipeline.clips.covering import UniformRecipe
from pclkd.sharding.common.pictures import Frame
from pclkd.sharding.shards.index import ShardIndex
from pclkd.training.preview.loaded import load_clips, rgb_levels
from pclkd.training.settings import RunSettings

__all__ = ["attended", "film_strip", "middle_strips", "picture", "strip_figure"]

_QUALITY = 75
_BAR = 6  # pixels
_STRONGEST = 0.85  # of the colour over a frame
_LONG, _REST = (196, 78, 0), (190, 194, 199)  # of a bar, and what is left of its frame's width; on white and on dark


def film_strip(frames: Frame, count: int, side: int) -> Frame:
    """Evenly spaced frames of a clip side by side.

    Args:
        frames: uint8 [T, H, W, 3].
        count: how many, at most.
        side: height and width of each, in pixels.

    Returns:
        uint8 [side, frames * side, 3].
    """
    small = [
        np.asarray(Image.fromarray(frames[t]).resize((side, side), Image.Resampling.BICUBIC))
        for t in _spaced(len(frames), count)
    ]
    return np.concatenate(small, axis=1)


def middle_strips(
    index: ShardIndex, samples: NDArray[np.int64], settings: RunSettings, *, count: int, side: int
) -> dict[int, Frame]:
    """A strip of the middle clip of each video, as its frames were stored, by row; damaged ones are left out."""
    recipe = UniformRecipe(views=1, clip_frames=settings.tuples.clip_frames)
    clips = load_clips(index, samples, settings, "rgb", recipe=recipe)
    return {row: film_strip(rgb_levels(clip)[0], count, side) for row, clip in clips}


def attended(frames: Frame, where: torch.Tensor, count: int, side: int, most: float) -> Frame:
    """A film strip in grey with attention laid over it; the bar below a frame has the length of its time's part.

    Args:
        frames: uint8 [T, H, W, 3].
        where: [t, h, w] in [0, 1].
        count: frames to show, at most.
        side: height and width of each, in pixels.
        most: mean of a time's places that a whole bar stands for.

    Returns:
        uint8 [side + 6, frames * side, 3].
    """
    length = len(frames)
    fine = F.interpolate(where[None, None].float(), (length, side, side), mode="trilinear")[0, 0].clamp(0, 1).numpy()
    times = F.interpolate(where.float().mean((1, 2))[None, None], length, mode="linear")[0, 0]
    parts = (times / max(most, 1e-12)).clamp(0, 1).numpy()
    strip, bars = film_strip(frames, count, side).mean(axis=2, keepdims=True), []
    chosen = _spaced(length, count)
    heat = np.concatenate([fine[t] for t in chosen], axis=1)[..., None]
    colours = 255 * np.asarray(matplotlib.colormaps["inferno"](heat[..., 0]))[..., :3]
    laid = strip + _STRONGEST * heat * (colours - strip)
    for t in chosen:
        bar = np.full((_BAR, side, 3), _REST)
        bar[:, : round(parts[t] * side)] = _LONG
        bar[:, -1] = 255
        bars.append(bar)
    return np.concatenate([laid.round(), np.concatenate(bars, axis=1)]).astype(np.uint8)


def picture(pixels: Frame) -> str:
    """uint8 [H, W, 3] as the address of a JPEG that stands in the page itself."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=_QUALITY, optimize=True)
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def strip_figure(strip: Frame, kind: str, name: str, told: str) -> str:
    """A strip as HTML, with a name and more about it below; its kind is "asked", "held", "fell" or none."""
    label = f"{name}, {told}"
    return (
        f'<figure class="strip {kind}"><img alt="{html.escape(label)}" src="{picture(strip)}">'
        f"<figcaption><b>{html.escape(name)}</b> {html.escape(told)}</figcaption></figure>"
    )


def _spaced(length: int, count: int) -> Sequence[int]:
    """Evenly spaced numbers below `length`, the first and the last among them."""
    chosen: list[int] = np.linspace(0, length - 1, min(count, length)).round().astype(int).tolist()
    return chosen
