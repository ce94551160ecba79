"""Hand-made features of motion: what optical flow and a few formulas tell, without anything learned.

Flow comes from brightness constancy (Lucas and Kanade, 1981) on frames of about 24 pixels a side, where an object moves
a pixel or two from frame to frame. It is told by a histogram of its directions (Laptev et al., "Learning realistic
human actions from movies", 2008) and, of what moves, by speed, expansion, turn and shear: the affine part of the flow.
"""

import math

import torch
import torch.nn.functional as F
from torch import nn

from pclkd.pipeline.pixels.colours import STD

__all__ = ["MotionFeatures"]

_SIDE = 24
_WINDOW = 5
_DIRECTIONS = 8
_LEAST = 1e-3  # of squared gradients (grey levels in [0, 1]): below it a place has no texture to follow


class MotionFeatures(nn.Module):
    """Stands where a network stands in an evaluation; it has no weights."""

    def features(self, clips: torch.Tensor) -> torch.Tensor:
        """[B, V, 3, T, H, W] of rgb frames, normalised -> [B, V, 40]; clips that show no motion give no direction."""
        grey = (clips.float() * clips.new_tensor(STD).view(3, 1, 1, 1)).mean(2).flatten(0, 1)  # but for a constant
        flow = _flow(F.avg_pool2d(grey, max(1, min(grey.shape[2:]) // _SIDE)))
        return torch.cat([_directions(flow), _over_time(_deformation(flow))], dim=1).reshape(*clips.shape[:2], -1)


def _flow(frames: torch.Tensor) -> torch.Tensor:
    """[N, T, h, w] -> [N, T - 1, 2, h, w] flow (x, y) in pixels a frame, less its median: the camera's own motion."""
    now = (frames[:, 1:] + frames[:, :-1]) / 2
    down, across = torch.gradient(now, dim=(2, 3))
    later = frames[:, 1:] - frames[:, :-1]
    xx, xy, yy, xt, yt = (
        F.avg_pool2d(product, _WINDOW, stride=1, padding=_WINDOW // 2, count_include_pad=False)
        for product in (across * across, across * down, down * down, across * later, down * later)
    )
    xx, yy = xx + _LEAST, yy + _LEAST
    flow: torch.Tensor = torch.stack([xy * yt - yy * xt, xy * xt - xx * yt], dim=2) / (xx * yy - xy * xy)[:, :, None]
    return flow - flow.flatten(3).median(3).values[..., None, None]


def _directions(flow: torch.Tensor) -> torch.Tensor:
    """[N, 8] mean speed that points into each eighth of the circle."""
    speed: torch.Tensor = torch.linalg.vector_norm(flow, dim=2).flatten(1)
    into = torch.atan2(flow[:, :, 1], flow[:, :, 0]).mul(_DIRECTIONS / math.tau).round().long().flatten(1) % _DIRECTIONS
    total = flow.new_zeros(len(flow), _DIRECTIONS).scatter_add_(1, into, speed)
    return total / speed.shape[1]


def _deformation(flow: torch.Tensor) -> torch.Tensor:
    """[N, T - 1, 8] a frame: speed right and down, expansion, turn, two shears, mean speed, share of it that moves.

    Each place counts by its speed; the affine part is the regression of the flow on the place.
    """
    x, y = flow[:, :, 0], flow[:, :, 1]
    speed: torch.Tensor = torch.linalg.vector_norm(flow, dim=2)
    weight = speed / speed.sum((2, 3), keepdim=True).clamp(min=1e-6)
    rows, columns = (torch.arange(size, device=flow.device, dtype=flow.dtype) for size in flow.shape[-2:])

    def mean(values: torch.Tensor) -> torch.Tensor:
        return (weight * values).sum((2, 3), keepdim=True)

    right, below = columns - mean(columns), rows[:, None] - mean(rows[:, None])
    wide, high, tilted = mean(right * right) + 1, mean(below * below) + 1, mean(right * below)
    scale = wide * high - tilted * tilted

    def slopes(values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        along, down = mean(right * values), mean(below * values)
        return (high * along - tilted * down) / scale, (wide * down - tilted * along) / scale

    (x_right, x_down), (y_right, y_down) = slopes(x), slopes(y)
    found = [mean(x), mean(y), x_right + y_down, y_right - x_down, x_right - y_down, y_right + x_down]
    mean_speed, mean_square = (values.mean((2, 3), keepdim=True) for values in (speed, speed * speed))
    found += [mean_speed, mean_speed**2 / mean_square.clamp(min=1e-12)]
    return torch.cat(found, dim=2)[..., 0]


def _over_time(series: torch.Tensor) -> torch.Tensor:
    """[N, T, Q] -> [N, 4 Q]: mean, mean size, deviation, and mean size of the change from frame to frame."""
    change = series.diff(dim=1).abs().mean(1)
    return torch.cat([series.mean(1), series.abs().mean(1), series.std(1, correction=0), change], dim=1)
