"""Changing rows of a batch of clips: gathers that work on numpy arrays and on tensors of any device."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import torch

__all__ = ["array_module", "change_rows", "frames_of", "quarter_turned"]


Ints = NDArray[np.int64]


def change_rows(rows: torch.Tensor, kind: Ints, change: Callable[[Any, int], Any]) -> None:
    """Change rows in place.

    On a GPU those of one kind together: as many steps as kinds, whatever the batch size. On a CPU one by one and by
    numpy: a row fits the cache, asks for no new pages, and torch's threads would wait for those that decode.

    Args:
        rows: [B, ...].
        kind: [B] what is to be done with each row; below 0: nothing.
        change: ([N, ...], kind) -> [N, ...], a tensor, or an array for an array; see `array_module`. May change its
            argument, and return it.
    """
    import torch

    if rows.device.type == "cpu" and rows.dtype is not torch.bfloat16:  # numpy has no bfloat16
        array = rows.numpy()
        for row in np.flatnonzero(kind >= 0).tolist():
            part = array[row : row + 1]
            changed = change(part, int(kind[row]))
            if changed is not part:
                part[:] = changed
        return
    order = np.argsort(kind, kind="stable")
    order = order[kind[order] >= 0]
    if not len(order):
        return
    index = torch.from_numpy(order)
    if rows.is_cuda:
        index = index.pin_memory().to(rows.device, non_blocking=True)
    sorted_kind = kind[order]
    starts = np.flatnonzero(np.diff(sorted_kind, prepend=-1)).tolist()
    for start, end in zip(starts, [*starts[1:], len(order)], strict=True):
        group = index[start:end]
        rows.index_copy_(0, group, change(rows.index_select(0, group), int(sorted_kind[start])))


def quarter_turned(rows: Any, turns: int) -> Any:
    """[..., C, T, H, W] with all frames turned counter-clockwise, as `rot90` does it; in place where that is faster."""
    if (frames := frames_of(rows)) is None:
        return array_module(rows).rot90(rows, turns, (-2, -1))
    if turns % 4:
        import cv2  # here, so that settings, which name the tasks, are printed without it

        turn = {1: cv2.ROTATE_90_COUNTERCLOCKWISE, 2: cv2.ROTATE_180, 3: cv2.ROTATE_90_CLOCKWISE}[turns % 4]
        for frame in frames:
            frame[:] = cv2.rotate(frame, turn)  # several times as fast as numpy
    return rows


def frames_of(rows: Any) -> NDArray[Any] | None:
    """[N, H, W, 3], views of all frames of an array [..., C, T, H, W] whose channels lie together, as a loader's do.

    What is changed frame by frame stays in the core's cache and asks for no new pages. None for whatever else.
    """
    if not isinstance(rows, np.ndarray) or rows.shape[-4] != 3 or rows.dtype not in (np.float32, np.uint8):
        return None
    frames = np.moveaxis(rows, -4, -1)
    return frames.reshape(-1, *frames.shape[-3:]) if frames.flags.c_contiguous else None


def array_module(rows: Any) -> Any:
    """Numpy for its arrays, else torch: `rot90`, `roll`, `stack`, `concatenate` take the same positional arguments."""
    if isinstance(rows, np.ndarray):
        return np
    import torch

    return torch
