"""The rendered actions: how an object's place, angle and size change over time. Nothing else tells the class."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = ["ACTIONS", "Track", "draw_track"]

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Track:
    """Pose of the object in each frame; the arrays are float64 [T].

    `x` and `y` are in frame heights from the frame's centre (y downwards), `angle` in radians (clockwise),
    `along` and `across` are the object's half lengths along and across its own axis, in frame heights.
    `sway_x` and `sway_y` are the camera's own shift, in frame heights. The shadow lies at height `foot` and reaches
    `reach` to each side, both in frame heights and the same in all frames.
    """

    x: Floats
    y: Floats
    angle: Floats
    along: Floats
    across: Floats
    sway_x: Floats
    sway_y: Floats
    foot: float
    reach: float


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
    """Draw the pose of an object that performs `action` for `frames` frames.

    Place, size, shape, starting angle, starting phase, direction and speed come from the same distributions for every
    action, and what an action leaves at rest rests at a random point of the way that a moving action would take it:
    no single frame tells which action it is.
    """
    time = np.arange(frames, dtype=np.float64)
    period = np.exp(rng.uniform(np.log(22.0), np.log(44.0)))
    # The speed wavers: an exactly periodic motion would look the same after a swap of two chunks a period apart.
    waver = 0.05 * np.sin(2 * np.pi * time / rng.uniform(50, 90) + rng.uniform(0, 2 * np.pi))
    phase = rng.choice([-1.0, 1.0]) * 2 * np.pi * (time / period + waver) + rng.uniform(0, 2 * np.pi)
    amplitude = rng.uniform(0.14, 0.24)
    radius = np.exp(rng.uniform(np.log(0.10), np.log(0.16)))
    aspect = rng.uniform(-0.25, 0.25)
    place_x, place_y = rng.uniform(-0.24, 0.24), rng.uniform(-0.12, 0.12)
    angle = rng.uniform(0, 2 * np.pi)
    rest = np.sin(rng.uniform(0, 2 * np.pi, size=(4, 1))) + np.zeros((4, frames))
    gap = rng.uniform(0.0, 0.3)
    sway_x, sway_y = _sway(time, rng), _sway(time, rng)
    change = ACTIONS[action](phase)
    zoom = 0.5 * (rest[2] if change.zoom is None else change.zoom)
    squeeze = aspect + 0.5 * (rest[3] if change.squeeze is None else change.squeeze)
    return Track(
        x=place_x + amplitude * (rest[0] if change.x is None else change.x),
        y=place_y + amplitude * (rest[1] if change.y is None else change.y),
        angle=angle + (np.zeros(frames) if change.turn is None else change.turn),
        along=radius * np.exp(zoom + squeeze),
        across=radius * np.exp(zoom - squeeze),
        sway_x=sway_x,
        sway_y=sway_y,
        foot=float(place_y + radius + gap),
        reach=float(radius),
    )


def _sway(time: Floats, rng: np.random.Generator) -> Floats:
    """Return the slow wandering of a hand-held camera: without it frame differences would show no background."""
    total = np.zeros_like(time)
    for slowest, fastest in ((70.0, 110.0), (24.0, 45.0)):
        turns = time / rng.uniform(slowest, fastest)
        total += rng.uniform(0.3, 1.0) * np.sin(2 * np.pi * (turns + rng.uniform()))
    return 0.012 * total
