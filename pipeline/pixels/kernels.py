"""Flip, colours, blur, normalisation, residual and pretext transform of decoded clips in two Triton kernels.

DALI's graph runs an operator after the other over every frame, and the pretext transform and the residual follow as
further passes over float32. Here each output pixel fetches what it is made of, and is written once:

    uint8 --3x4 map, across--> float32 of the clips that are blurred       (first kernel)
    uint8 --3x4 map----------------------------.
    float32 of the first kernel --down---------'--gather, minus each other, normalise--> what the network takes

Maths and parameters are those of `colours`, and the steps those of `fused`, which is what the kernels are held to:
colours round to levels, a blur does not. They differ by a level where OpenCV's fixed-point colours round otherwise.

The kernels themselves are in `programs`.
"""

import numpy as np
import torch
from numpy.typing import NDArray

from pclkd.pipeline.clips.augment import ClipAugment
from pclkd.pipeline.pixels.colours import colour_maps, gaussian_taps, normalised
from pclkd.pipeline.pixels.finish import ClipFinish
from pclkd.pipeline.pixels.gather import Gathers
from pclkd.pipeline.pixels.programs import blur_across, finish_clips

__all__ = ["KernelColours"]

_BLOCK = 512  # pixels that a program does
_TAPS = 16  # the blur's weights are padded to a multiple, so that their length compiles one kernel


class KernelColours:
    """Turns uint8 windows into what the network takes.

    Args:
        crop: (H, W) of the clips, in pixels.
    """

    def __init__(self, crop: tuple[int, int]) -> None:
        self._crop = crop
        self._gathers = Gathers(crop)
        last = normalised()
        self._last = (*np.diagonal(last).tolist(), *last[:, 3].tolist())

    def apply(
        self,
        frames: torch.Tensor,
        augment: ClipAugment,
        finish: ClipFinish | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> torch.Tensor:
        """Flip, change colours, blur, normalise and finish.

        A pretext task of which no gather is known does its part itself, after the kernels.

        Args:
            frames: [B * V * T, H, W, 3] uint8, clip after clip, contiguous, on the device.
            augment: parameters [B, V].
            finish: what is done to the samples in the end.
            dtype: of the result: float32, bfloat16 or float16.

        Returns:
            [B, V, T, H, W, 3] on the device; the caller's alone.
        """
        finish, (samples, views) = finish or ClipFinish(), augment.flip.shape
        (height, width), clips, device = self._crop, augment.flip.size, frames.device
        length = len(frames) // clips
        gather = self._gathers.of(finish.draw, samples, views, length)
        known = gather is not None
        gather = gather or self._gathers.of(None, samples, views, length)
        assert gather is not None  # what does nothing has one
        source = gather.frames[:, 0] // length
        sigma = augment.sigma.reshape(-1)
        blurred = np.flatnonzero(sigma > 0)
        slot = np.full(clips, -1, np.int32)  # of a blurred clip in the first kernel's result
        slot[blurred] = np.arange(len(blurred))
        table = np.concatenate(
            [_flipped(gather.moves, augment.flip.reshape(-1)[source], width), slot[source, None], gather.frames],
            axis=1,
        )
        maps = torch.from_numpy(colour_maps(augment).reshape(clips, 12)).to(device)
        radius, weights = _weights(sigma[blurred])
        blurs = torch.from_numpy(np.stack([blurred, radius], axis=1).astype(np.int32)).to(device)
        taps = torch.from_numpy(weights).to(device)
        across = torch.empty(len(blurred), length, height, width, 3, device=device)
        kept = dtype if known else torch.float32  # what a task makes of numbers it makes of exact ones
        out = torch.empty(clips, length, height, width, 3, dtype=kept, device=device)
        tiles, size = -(-height * width // _BLOCK), (length, height, width)
        # Triton takes the thread's current GPU, wherever the frames are.
        with torch.cuda.device_of(frames):  # type: ignore[no-untyped-call]
            if len(blurred):
                blur_across[(len(blurred) * length, tiles)](
                    frames, maps, blurs, taps, across, *size, weights.shape[1], block=_BLOCK
                )
            finish_clips[(clips, tiles)](
                *(frames, maps, torch.from_numpy(table).to(device), blurs, taps, across, out),
                *(*size, weights.shape[1], *self._last),
                residual=finish.residual and known,
                block=_BLOCK,
            )
        result = out.view(samples, views, *out.shape[1:])
        if known:
            return result
        # [B, V, T, H, W, C] -> [B, V, C, T, H, W] and back
        return finish.batch(result.permute(0, 1, 5, 2, 3, 4)).permute(0, 1, 3, 4, 5, 2).to(dtype)


def _flipped(moves: NDArray[np.int32], flip: NDArray[np.int32], width: int) -> NDArray[np.int32]:
    """The moves with the source mirrored: what was column x is column width - 1 - x."""
    mirrored = moves.copy()
    mirrored[:, 3:] = -moves[:, 3:] % width
    mirrored[:, 5] = (width - 1 - moves[:, 5]) % width
    return np.where(flip[:, None] != 0, mirrored, moves)


def _weights(sigma: NDArray[np.float32]) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """Of each blur the pixels that it reaches to a side, and its taps, in rows of one length."""
    taps = [gaussian_taps(float(one)) for one in sigma]
    longest = max(map(len, taps), default=1)
    rows = np.zeros((len(taps), -(-longest // _TAPS) * _TAPS), np.float32)
    for row, one in zip(rows, taps, strict=True):
        row[: len(one)] = one
    return np.array([len(one) // 2 for one in taps], np.int32), rows
