"""What the rendered clips show: a landscape and an object. Both belong to a group and know nothing of the action."""

import colorsys
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = ["SUPERSAMPLING", "Scene", "draw_scene"]

SUPERSAMPLING = 2  # the landscape is kept at twice the resolution, so that it can be magnified and shifted smoothly
_MARGIN = 0.8  # room around the landscape for a camera that pans and draws back, in frame heights
_SPRITE = 160  # pixels a side

Floats = npt.NDArray[np.float64]
Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Scene:
    """Landscape, uint8 [rows, columns, 3], with margins and supersampled; object, uint8 [side, side, 4].

    The object's colours are multiplied by its alpha, and it points along the x axis.
    """

    landscape: Pixels
    sprite: Pixels


def draw_scene(height: int, width: int, rng: np.random.Generator) -> Scene:
    """Draw landscape and object for frames of `height` x `width` pixels."""
    return Scene(_to_pixels(_landscape(height, width, rng)), _to_pixels(_sprite(rng)))


def _to_pixels(image: Floats) -> Pixels:
    return np.clip(image * 255 + 0.5, 0, 255).astype(np.uint8)


def _colour(
    rng: np.random.Generator, saturation: tuple[float, float], value: tuple[float, float], unlike: Floats | None = None
) -> Floats:
    """Draw a colour, float64 [3] in 0..1, of any hue, or of one that lies across from that of `unlike`."""
    hue = rng.uniform()
    if unlike is not None:
        hue = (colorsys.rgb_to_hsv(*unlike)[0] + 0.3 + 0.4 * hue) % 1
    return np.array(colorsys.hsv_to_rgb(hue, rng.uniform(*saturation), rng.uniform(*value)))


def _mix(low: Floats, high: Floats, weight: Floats) -> Floats:
    return np.asarray(low + weight[..., None] * (high - low))


def _waves(u: Floats, v: Floats, rng: np.random.Generator, count: int, frequency: float) -> Floats:
    """Return smooth noise in 0..1: a sum of plane waves."""
    total = np.zeros(np.broadcast(u, v).shape)
    for _ in range(count):
        direction = rng.uniform(0, np.pi)
        pace = frequency * rng.uniform(0.5, 1.5)
        total += np.sin(2 * np.pi * (pace * (u * np.cos(direction) + v * np.sin(direction)) + rng.uniform()))
    return np.asarray(0.5 + 0.5 * total / np.sqrt(count) / 1.5)


def _landscape(height: int, width: int, rng: np.random.Generator) -> Floats:
    """Return a bright sky over darker ground with upright things on the horizon, float64 [rows, columns, 3].

    Real videos have an up and a down: without one, "was this clip rotated?" could not be answered.
    """
    step = 1 / (SUPERSAMPLING * height)
    y = np.arange(-_MARGIN, 1 + _MARGIN, step)[:, None]
    x = np.arange(-_MARGIN, width / height + _MARGIN, step)[None, :]
    horizon = rng.uniform(0.40, 0.62)
    sky_top = _colour(rng, (0.15, 0.6), (0.75, 0.95))
    sky_low = 0.4 * sky_top + 0.6
    height_in_sky = np.clip(y / horizon, 0, 1) + 0 * x
    clouds = _waves(x, 3 * y, rng, 5, 1.6)
    sky = _mix(sky_top, sky_low, height_in_sky) * (0.88 + 0.16 * clouds[..., None])

    depth = np.clip(y - horizon, 0.02, None)
    near = np.clip((y - horizon) / (1 - horizon), 0, 1)
    pattern = _waves((x - rng.uniform(0.3, 1.0)) / (depth + 0.25), 0.35 / (depth + 0.12), rng, 3, 1.8)
    fine = _waves(x, y, rng, 6, 9.0)
    ground_dark = _colour(rng, (0.25, 0.7), (0.12, 0.25))
    ground_light = _colour(rng, (0.25, 0.7), (0.35, 0.55))
    ground = _mix(ground_dark, ground_light, 0.65 * pattern + 0.35 * fine) * (1.0 - 0.3 * near[..., None])

    image = np.where((y < horizon)[..., None], sky, ground)
    for _ in range(int(rng.integers(10, 18))):
        _stand_upright(image, x, y, horizon, rng)
    return image


def _stand_upright(image: Floats, x: Floats, y: Floats, horizon: float, rng: np.random.Generator) -> None:
    """Put a house or a tree on the horizon: lit from above, dark at its foot."""
    middle = rng.uniform(x[0, 0], x[0, -1])
    half = rng.uniform(0.04, 0.11)
    foot = horizon + rng.uniform(0.0, 0.1)
    top = foot - rng.uniform(0.2, 0.5)
    colour = _colour(rng, (0.2, 0.8), (0.45, 0.9))
    light = 1.1 - 0.65 * np.clip((y - top) / (foot - top), 0, 1)
    beside = np.abs(x - middle)
    if rng.uniform() < 0.5:
        inside = (beside < half) & (y > top) & (y < foot)
        windows = (np.mod((x - middle) / half * 1.5, 1) < 0.45) & (np.mod((y - top) / half * 0.9, 1) < 0.4)
        light = light * np.where(windows, 0.55, 1.0)
    else:
        trunk = (beside < 0.25 * half) & (y > top) & (y < foot)
        crown_y = top + 1.2 * half
        crown = (beside / (1.3 * half)) ** 2 + ((y - crown_y) / (1.7 * half)) ** 2 < 1
        light = light * np.where(crown, 1.0, 0.6)
        inside = trunk | crown
    image[inside] = (colour * light[..., None] + 0 * image)[inside]


def _sprite(rng: np.random.Generator) -> Floats:
    """Return an object with alpha, float64 [side, side, 4]; its front half differs, so that any turn is seen."""
    fold = 2
    axis = (np.arange(_SPRITE * fold) + 0.5) / (_SPRITE * fold) * 2 - 1
    u, v = axis[None, :] / 0.95, axis[:, None] / 0.95
    distance = _outline(u, v, rng)
    inside = distance < 1
    low, high = _colour(rng, (0.5, 1.0), (0.3, 0.6)), _colour(rng, (0.3, 1.0), (0.8, 1.0))
    front = _colour(rng, (0.7, 1.0), (0.7, 1.0), unlike=high)
    texture = _texture(u, v, rng)
    colours = _mix(low, high, texture)
    head = (u > 0.35) | ((u > -0.1) & (np.abs(v) < 0.15))
    colours = np.where(head[..., None], 0.75 * front + 0.25 * colours, colours)
    rim = np.where(distance > 0.88, 0.35, 1.0)
    image = np.concatenate([colours * rim[..., None], np.ones((*inside.shape, 1))], axis=-1) * inside[..., None]
    side = _SPRITE
    return np.asarray(image.reshape(side, fold, side, fold, 4).mean(axis=(1, 3)))


def _outline(u: Floats, v: Floats, rng: np.random.Generator) -> Floats:
    """Return a function of place that is below 1 inside one of six shapes."""
    radius, angle = np.hypot(u, v), np.arctan2(v, u)
    square = np.maximum(np.abs(u), np.abs(v)) * 1.2
    shapes = (
        radius + 0 * u,
        square,
        np.maximum(-u * 1.6, 0.5 * u + 0.9 * np.abs(v) + 0.12),
        np.minimum(
            np.maximum(np.abs(u), np.abs(v) * 2.4),
            np.maximum(np.abs(v), np.abs(u) * 2.4),
        ),
        radius / (0.72 + 0.28 * np.cos(5 * angle)),
        (np.abs(u) + np.abs(v)) * 0.95,
    )
    return shapes[int(rng.integers(len(shapes)))]


def _texture(u: Floats, v: Floats, rng: np.random.Generator) -> Floats:
    """Return stripes, squares, dots or patches, 0..1."""
    pace = rng.uniform(1.5, 3.0)
    direction = rng.uniform(0, np.pi)
    a = pace * (u * np.cos(direction) + v * np.sin(direction))
    b = pace * (v * np.cos(direction) - u * np.sin(direction))
    kinds = (
        (np.mod(a, 1) < 0.5) + 0.0 * b,
        ((np.mod(a, 1) < 0.5) ^ (np.mod(b, 1) < 0.5)).astype(np.float64),
        (np.hypot(np.mod(a, 1) - 0.5, np.mod(b, 1) - 0.5) < 0.33).astype(np.float64),
        _waves(u, v, rng, 4, 1.2),
    )
    return kinds[int(rng.integers(len(kinds)))]
