"""The rendered actions: how an object's place, angle and size change over time. Nothing else tells the class."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = ["ACTIONS", "Track", "draw_track"]

Floats = npt.NDArray[np.float64]
_PAN = 0.5  # frame heights along the landscape in a whole video, at most
_GROWTH = 1.2  # of the logarithm of the scale
_WARMTH = 1.4  # of the logarithm of red over blue
_SLOWEST = 0.15  # share of its full speed at which an action begins and ends


@dataclass(frozen=True)
class Track:
    """Object and camera in each frame; the arrays are float64 [T]. Lengths are frame heights where `scale` is 1.

    The object is at `x` and `y` from the middle of the view (y downwards), turned by `angle` (radians, clockwise), with
    half lengths `along` and `across` its own axis. Its shadow lies below it at `foot`, `reach` to each side.
    `sway_x` and `sway_y` are the tremble of the camera, `pan` is how far object and camera have gone along the
    landscape, `scale` how much both are magnified, `light` [T, 3] what the light of that moment does to red, green
    and blue.
    """

    x: Floats
    y: Floats
    angle: Floats
    along: Floats
    across: Floats
    foot: float
    reach: float
    sway_x: Floats
    sway_y: Floats
    pan: Floats
    scale: Floats
    light: Floats


@dataclass(frozen=True)
class _Change:
    """What an action moves, float64 [T]; None for what rests.

    `x` and `y` are in amplitudes, `turn` in radians, `zoom` and `squeeze` go from -1 to 1.
    """

    x: Floats | None = None
    y: Floats | None = None
    turn: Floats | None = None
    zoom: Floats | None = None
    squeeze: Floats | None = None


def _pendulum(phase: Floats) -> _Change:
    swing = 0.9 * np.sin(phase)
    length = 1.4
    return _Change(x=length * np.sin(swing), y=length * (np.cos(swing) - 0.85), turn=-swing)


def _shake(phase: Floats) -> _Change:
    return _Change(
        x=0.3 * (np.sin(2.7 * phase) + np.sin(4.3 * phase + 1.0)),
        y=0.3 * (np.sin(3.1 * phase + 2.0) + np.sin(4.9 * phase)),
    )


# The phase of each action advances by 2 pi a period. The first eight are the default classes.
ACTIONS: dict[str, Callable[[Floats], _Change]] = {
    "TranslateHorizontal": lambda phase: _Change(x=np.sin(phase)),
    "Rotate": lambda phase: _Change(turn=phase),
    "Zoom": lambda phase: _Change(zoom=np.sin(phase)),
    "Pendulum": _pendulum,
    "Bounce": lambda phase: _Change(y=1.0 - 2.0 * np.abs(np.sin(phase / 2))),
    "Shake": _shake,
    "Orbit": lambda phase: _Change(x=np.cos(phase), y=np.sin(phase)),
    "Squeeze": lambda phase: _Change(squeeze=np.sin(phase)),
    "TranslateVertical": lambda phase: _Change(y=np.sin(phase)),
    "Rock": lambda phase: _Change(turn=0.9 * np.sin(phase)),
}


def draw_track(action: str, frames: int, rng: np.random.Generator) -> Track:
    """Draw the pose of an object that performs `action` for `frames` frames, and the camera that follows it.

    Place, size, shape, starting angle, starting phase, direction and speed come from the same distributions for every
    action, and what an action leaves at rest rests at a random point of the way that a moving action would take it:
    no single frame tells which action it is.

    As in real footage the action begins and ends, the camera goes along with it and comes nearer or draws back, and the
    light turns warmer or colder: two moments of a video differ by more than the phase of a periodic motion, or nothing
    could tell a clip of another moment.
    """
    time = np.arange(frames, dtype=np.float64)
    passed = time / max(frames - 1, 1)
    period = np.exp(rng.uniform(np.log(10.0), np.log(18.0)))
    # The speed wavers: an exactly periodic motion would look the same after a swap of two chunks a period apart.
    waver = 0.05 * np.sin(2 * np.pi * time / rng.uniform(50, 90) + rng.uniform(0, 2 * np.pi))
    turns = np.cumsum(_pace(time, rng)) / period
    phase = rng.choice([-1.0, 1.0]) * 2 * np.pi * (turns + waver) + rng.uniform(0, 2 * np.pi)
    amplitude = rng.uniform(0.16, 0.24)
    radius = np.exp(rng.uniform(np.log(0.13), np.log(0.18)))
    aspect = rng.uniform(-0.25, 0.25)
    place_x, place_y = rng.uniform(-0.12, 0.12), rng.uniform(-0.08, 0.08)
    angle = rng.uniform(0, 2 * np.pi)
    rest = np.sin(rng.uniform(0, 2 * np.pi, size=(4, 1))) + np.zeros((4, frames))
    gap = rng.uniform(0.0, 0.2)
    sway_x, sway_y = _sway(time, rng), _sway(time, rng)
    pan, growth, warmth = (_drift(passed, most, rng) for most in (_PAN, _GROWTH, _WARMTH))
    light = np.exp(rng.uniform(-0.15, 0.1) + np.outer(warmth, (0.5, 0.0, -0.5)))
    change = ACTIONS[action](phase)
    zoom = 0.5 * (rest[2] if change.zoom is None else change.zoom)
    squeeze = aspect + 0.5 * (rest[3] if change.squeeze is None else change.squeeze)
    return Track(
        x=place_x + amplitude * (rest[0] if change.x is None else change.x),
        y=place_y + amplitude * (rest[1] if change.y is None else change.y),
        angle=angle + (np.zeros(frames) if change.turn is None else change.turn),
        along=radius * np.exp(zoom + squeeze),
        across=radius * np.exp(zoom - squeeze),
        foot=float(place_y + radius + gap),
        reach=float(radius),
        sway_x=sway_x,
        sway_y=sway_y,
        pan=pan,
        scale=np.exp(growth),
        light=light,
    )


def _pace(time: Floats, rng: np.random.Generator) -> Floats:
    """Return the speed of an action that begins slowly and comes nearly to rest, as a share of its full speed."""
    begin, end = (rng.uniform(10, 24) for _ in range(2))
    rise = np.clip(time / begin, 0, 1)
    fall = np.clip((time[-1] - time) / end, 0, 1)
    return np.asarray(_SLOWEST + (1 - _SLOWEST) * np.minimum(rise, fall))


def _drift(passed: Floats, most: float, rng: np.random.Generator) -> Floats:
    """Return what goes one way through the whole video, by a half of `most` to `most`; 0 in its middle."""
    return np.asarray(rng.choice([-1.0, 1.0]) * rng.uniform(most / 2, most) * (passed - 0.5))


def _sway(time: Floats, rng: np.random.Generator) -> Floats:
    """Return the slow wandering of a hand-held camera: without it frame differences would show no background."""
    total = np.zeros_like(time)
    for slowest, fastest in ((70.0, 110.0), (24.0, 45.0)):
        turns = time / rng.uniform(slowest, fastest)
        total += rng.uniform(0.3, 1.0) * np.sin(2 * np.pi * (turns + rng.uniform()))
    return 0.012 * total
