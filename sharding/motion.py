"""The rendered actions: how an object's place, angle and size change over time. Nothing else tells the class."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = ["ACTIONS", "Track", "draw_track"]

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Track:
    """Pose of the object in each frame; every field is float64 [T].

    `x` and `y` are in frame heights from the frame's centre (y downwards), `angle` in radians (clockwise),
    `along` and `across` are the object's half lengths along and across its own axis, in frame heights.
    `sway_x` and `sway_y` are the camera's own shift, in frame heights.
    """

    x: Floats
    y: Floats
    angle: Floats
    along: Floats
    across: Floats
    sway_x: Floats
    sway_y: Floats


@dataclass(frozen=True)
class _Change:
    """What an action adds to a resting object: shift in amplitudes, turn in radians, logarithm of the stretch."""

    x: Floats | float = 0.0
    y: Floats | float = 0.0
    turn: Floats | float = 0.0
    log_along: Floats | float = 0.0
    log_across: Floats | float = 0.0


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
    "Zoom": lambda phase: _Change(log_along=0.5 * np.sin(phase), log_across=0.5 * np.sin(phase)),
    "Pendulum": _pendulum,
    "Bounce": lambda phase: _Change(y=1.0 - 2.0 * np.abs(np.sin(phase / 2))),
    "Shake": _shake,
    "Orbit": lambda phase: _Change(x=np.cos(phase), y=np.sin(phase)),
    "Squeeze": lambda phase: _Change(log_along=0.5 * np.sin(phase), log_across=-0.5 * np.sin(phase)),
    "TranslateVertical": lambda phase: _Change(y=np.sin(phase)),
    "Rock": lambda phase: _Change(turn=0.9 * np.sin(phase)),
}


def draw_track(action: str, frames: int, rng: np.random.Generator) -> Track:
    """Draw the pose of an object that performs `action` for `frames` frames.

    Place, size, shape, starting angle, starting phase, direction and speed come from the same distributions for every
    action, so that no single frame tells which one it is.
    """
    time = np.arange(frames, dtype=np.float64)
    period = np.exp(rng.uniform(np.log(22.0), np.log(44.0)))
    # The speed wavers: an exactly periodic motion would look the same after a swap of two chunks a period apart.
    waver = 0.05 * np.sin(2 * np.pi * time / rng.uniform(50, 90) + rng.uniform(0, 2 * np.pi))
    phase = rng.choice([-1.0, 1.0]) * 2 * np.pi * (time / period + waver) + rng.uniform(0, 2 * np.pi)
    amplitude = rng.uniform(0.14, 0.24)
    radius = np.exp(rng.uniform(np.log(0.10), np.log(0.20)))
    aspect = rng.uniform(-0.4, 0.4)
    x, y = rng.uniform(-0.3, 0.3), rng.uniform(-0.2, 0.2)
    angle = rng.uniform(0, 2 * np.pi)
    sway_x, sway_y = _sway(time, rng), _sway(time, rng)
    change = ACTIONS[action](phase)
    still = np.zeros(frames)
    return Track(
        x=x + amplitude * change.x + still,
        y=y + amplitude * change.y + still,
        angle=angle + change.turn + still,
        along=radius * np.exp(aspect + change.log_along) + still,
        across=radius * np.exp(-aspect + change.log_across) + still,
        sway_x=sway_x,
        sway_y=sway_y,
    )


def _sway(time: Floats, rng: np.random.Generator) -> Floats:
    """Return the slow wandering of a hand-held camera: without it frame differences would show no background."""
    total = np.zeros_like(time)
    for slowest, fastest in ((70.0, 110.0), (24.0, 45.0)):
        turns = time / rng.uniform(slowest, fastest)
        total += rng.uniform(0.3, 1.0) * np.sin(2 * np.pi * (turns + rng.uniform()))
    return 0.012 * total
