"""Where each pixel of a finished clip comes from, so that kernels fetch pixels instead of moving them afterwards.

What a pretext task does stands in its `apply` alone. Here it is applied to coordinates, once a kind of draw: what comes
back tells the source of every pixel. The tasks of this package, and most others, move whole frames and turn or shift
pictures, which is a frame's number and an affine map around the picture's edges:

    row = (a * y + b * x + c) mod height        column = (d * y + e * x + f) mod width

What does anything else to a clip has no gather: it is left to the task itself.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from pclkd.pipeline.pretext.base import PretextDraw

__all__ = ["Gather", "Gathers"]

_KINDS = 256  # a task with more of them gains nothing from being asked once a kind
Ints = NDArray[np.int32]


@dataclass(frozen=True)
class Gather:
    """Sources of the pixels of N clips.

    Attributes:
        frames: [N, T] int32, the frame of the batch that each frame is taken from; all of a clip's are of one clip.
        moves: [N, 6] int32, a to f of the formula above, none below 0.
    """

    frames: Ints
    moves: Ints


class Gathers:
    """Finds the gathers of a batch's pretext draws.

    Args:
        size: height and width of the clips, in pixels, 2 or more.
    """

    def __init__(self, size: tuple[int, int]) -> None:
        self._size = size
        self._known: dict[object, Gather | None] = {}

    def of(self, draw: PretextDraw | None, samples: int, views: int, frames: int) -> Gather | None:
        """The gather of B * V clips of T frames; None where the draw does something else to some of them.

        Raises:
            ValueError: the draw cannot take such clips apart.
        """
        if draw is None or type(draw).apply is PretextDraw.apply:
            each = [_untouched(views, frames)] * samples
        else:
            each = []
            for b in range(samples):
                if (one := self._sample(draw, b, views, frames)) is None:
                    return None
                each.append(one)
        first = np.arange(samples, dtype=np.int32) * views * frames
        return Gather(
            np.concatenate([one.frames + begin for one, begin in zip(each, first, strict=True)]),
            np.concatenate([one.moves for one in each]),
        )

    def _sample(self, draw: PretextDraw, b: int, views: int, frames: int) -> Gather | None:
        rows = (value[b].tobytes() if isinstance(value, np.ndarray) else value for value in vars(draw).values())
        kind = (type(draw), views, frames, *rows)
        try:
            if kind not in self._known:
                if len(self._known) == _KINDS:
                    return None
                self._known[kind] = _asked(draw.sample(b), views, frames, self._size)
        except TypeError:  # not hashable
            return None
        return self._known[kind]


def _untouched(views: int, frames: int) -> Gather:
    moves = np.tile(np.array([1, 0, 0, 0, 1, 0], np.int32), (views, 1))
    return Gather(np.arange(views * frames, dtype=np.int32).reshape(views, frames), moves)


def _asked(draw: PretextDraw, views: int, frames: int, size: tuple[int, int]) -> Gather | None:
    """The gather of one sample, from what its draw does to coordinates."""
    height, width = size
    number, y, x = np.meshgrid(np.arange(views * frames), np.arange(height), np.arange(width), indexing="ij")
    # As a loader's clips lie in memory: [V, T, H, W, C], seen as [1, V, C, T, H, W].
    told = np.stack([number, y, x], axis=-1).astype(np.float32).reshape(views, frames, height, width, 3)
    clips = draw.apply(torch.from_numpy(told)[None].permute(0, 1, 5, 2, 3, 4))
    if clips.shape != (1, views, 3, frames, height, width):
        return None
    source, row, column = clips[0].permute(1, 0, 2, 3, 4).numpy()  # [V, T, H, W] each
    first = source[:, :, :1, :1]
    moves = np.concatenate([_affine(row, height), _affine(column, width)], axis=1)
    a, b, c, d, e, f = moves.T[:, :, None, None, None]
    down, right = np.arange(height)[:, None], np.arange(width)
    turned = (row == (a * down + b * right + c) % height).all() and (column == (d * down + e * right + f) % width).all()
    of_one_clip = (first // frames == first[:, :1] // frames).all()
    if not (turned and of_one_clip and (source == first).all()):
        return None
    return Gather(first[:, :, 0, 0].astype(np.int32), moves.astype(np.int32))


def _affine(coordinate: NDArray[np.float32], size: int) -> NDArray[np.int64]:
    """[V, 3] how much a coordinate [V, T, H, W] grows down and across, and where it begins, modulo `size`."""
    corner = coordinate[:, 0, :2, :2].astype(np.int64)
    begin = corner[:, 0, 0]
    return np.stack([corner[:, 1, 0] - begin, corner[:, 0, 1] - begin, begin], axis=1) % size
