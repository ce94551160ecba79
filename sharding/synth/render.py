"""Frames of a rendered clip: what the camera sees of the landscape, the object's shadow, the object."""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
from PIL import Image

from pclkd.sharding.synth.actions import Track
from pclkd.sharding.synth.scene import SUPERSAMPLING, Scene

__all__ = ["render_clip"]

Pixels = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]
_SHADOW = 0.7  # how much of the light a shadow takes


def render_clip(scene: Scene, track: Track, height: int, width: int, gain: float = 1.0) -> Iterator[Pixels]:
    """Yield the frames of a clip, uint8 [height, width, 3].

    Light comes from above: the object is bright on its upper side however it turns, and its shadow stays below.

    Args:
        scene: landscape and object.
        track: pose of the object in each frame.
        height: pixels.
        width: pixels.
        gain: exposure of the camera, 1 for none.
    """
    sprite = Image.fromarray(scene.sprite, "RGBa")
    landscape = Image.fromarray(scene.landscape)
    for t in range(len(track.x)):
        light = (gain * track.light[t]).astype(np.float32)
        unit = track.scale[t] * height  # pixels of the frame
        frame = _view(landscape, (track.pan[t] - track.sway_x[t], -track.sway_y[t]), unit, height, width)
        frame = np.minimum(frame * light, 255)
        x = width / 2 + (track.x[t] + track.sway_x[t]) * unit
        y = height / 2 + (track.y[t] + track.sway_y[t]) * unit
        _cast_shadow(frame, x, height / 2 + (track.foot + track.sway_y[t]) * unit, track.reach * unit)
        _paint(frame, sprite, (x, y), float(track.angle[t]), (track.along[t] * unit, track.across[t] * unit), light)
        yield frame.astype(np.uint8)


def _view(landscape: Image.Image, middle: tuple[float, float], unit: float, height: int, width: int) -> Floats:
    """What the camera sees around a point of the landscape, float32 [height, width, 3].

    Args:
        landscape: supersampled, with its margins.
        middle: the point, in frame heights at scale 1 from the landscape's middle.
        unit: pixels that such a length takes in the frame.
        height: pixels.
        width: pixels.
    """
    whole = height * SUPERSAMPLING  # pixels that it takes in the landscape
    fine = whole / unit  # pixels of the landscape a pixel of the frame
    left = landscape.width / 2 + middle[0] * whole - width / 2 * fine
    top = landscape.height / 2 + middle[1] * whole - height / 2 * fine
    across = (fine, 0.0, left, 0.0, fine, top)
    seen = landscape.transform((width, height), Image.Transform.AFFINE, across, Image.Resampling.BILINEAR)
    return np.asarray(seen, dtype=np.float32)


def _box(frame: Floats, x: float, y: float, half_x: float, half_y: float) -> tuple[slice, slice]:
    """Return the rows and columns of the frame that a box around (x, y) covers."""
    rows = slice(max(0, int(y - half_y)), max(0, min(frame.shape[0], int(y + half_y) + 2)))
    columns = slice(max(0, int(x - half_x)), max(0, min(frame.shape[1], int(x + half_x) + 2)))
    return rows, columns


def _cast_shadow(frame: Floats, x: float, y: float, half: float) -> None:
    rows, columns = _box(frame, x, y, half, half / 4)
    v = (np.arange(rows.start, rows.stop, dtype=np.float32)[:, None] - y) / (half / 4)
    u = (np.arange(columns.start, columns.stop, dtype=np.float32)[None, :] - x) / half
    light = 1 - _SHADOW * np.clip(1.5 * (1 - u * u - v * v), 0, 1)
    frame[rows, columns] = frame[rows, columns] * light[..., None]


def _paint(
    frame: Floats,
    sprite: Image.Image,
    place: tuple[float, float],
    angle: float,
    lengths: tuple[float, float],
    light: Floats,
) -> None:
    """Draw the object over the frame; pixels of the object are looked up backwards, from frame to sprite."""
    x, y = place
    cos, sin = np.cos(angle), np.sin(angle)
    half_x = abs(lengths[0] * cos) + abs(lengths[1] * sin)
    half_y = abs(lengths[0] * sin) + abs(lengths[1] * cos)
    rows, columns = _box(frame, x, y, half_x, half_y)
    size = columns.stop - columns.start, rows.stop - rows.start
    if min(size) <= 0:
        return
    middle = sprite.width / 2
    a, b = middle * cos / lengths[0], middle * sin / lengths[0]
    d, e = -middle * sin / lengths[1], middle * cos / lengths[1]
    left, top = columns.start - x, rows.start - y
    inverse = (a, b, middle + a * left + b * top, d, e, middle + d * left + e * top)
    warped = sprite.transform(size, Image.Transform.AFFINE, inverse, Image.Resampling.BILINEAR)
    drawn = np.asarray(warped, dtype=np.float32)
    below = (np.arange(rows.start, rows.stop, dtype=np.float32)[:, None, None] - y) / half_y
    seen = frame[rows, columns] * (1 - drawn[..., 3:] / 255) + drawn[..., :3] * light * (1.0 - 0.6 * below)
    frame[rows, columns] = np.minimum(seen, 255)
