"""Flip, colours, blur and normalisation of decoded clips on a CPU: what DALI's operators do, several times as fast.

DALI works frame by frame and runs every operator on every frame. Here a clip is one picture T * H pixels high, all
colour operators are one 3x4 map, and a clip passes only the steps that change it. OpenCV's loops use the whole width
of the CPU's registers and let go of Python's lock, so clips are done side by side in threads.

    uint8 --flip?--> uint8 --3x4 map?--> uint8 --blur?--> float32 --3x4 map--> normalised float32

It differs from the graph by rounding alone: by a level at most here and there where colours change, and by the
half level that the graph rounds away behind a blur (see `colours` for the maths).
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
from numpy.typing import NDArray

from pclkd.pipeline.augment import ClipAugment
from pclkd.pipeline.colours import blur_window, colour_maps, normalised

__all__ = ["FusedColours"]

Levels = NDArray[np.uint8]
Floats = NDArray[np.float32]


class FusedColours:
    """Turns cropped uint8 clips into what the network takes.

    Args:
        threads: clips done at once; the calling thread is one of them.
    """

    def __init__(self, threads: int) -> None:
        self._threads = threads
        self._pool = ThreadPoolExecutor(threads - 1, thread_name_prefix="pclkd-colours") if threads > 1 else None
        self._normalised = normalised()

    def apply(self, frames: Levels, augment: ClipAugment) -> Floats:
        """Flip, change colours, blur and normalise.

        Args:
            frames: [B * V * T, H, W, 3] RGB, clip after clip.
            augment: parameters [B, V].

        Returns:
            [B * V * T, H, W, 3] float32, normalised; freshly made, the caller's alone.
        """
        clips = frames.reshape(augment.flip.size, -1, *frames.shape[1:])
        # numpy asks the kernel for huge pages; torch.empty would spend longer on page faults than all the maths takes.
        out = np.empty(clips.shape, np.float32)
        work = _Work(clips, out, augment, self._normalised)
        # Threads take the next clip when they are done with one: blurred clips take several times as long as others.
        numbers = iter(range(len(clips)))
        others = [self._pool.submit(work.clips, numbers) for _ in range(self._threads - 1)] if self._pool else []
        work.clips(numbers)
        for other in others:
            other.result()
        return out.reshape(frames.shape)

    def close(self) -> None:
        """End the threads."""
        if self._pool:
            self._pool.shutdown()


class _Work:
    """One batch: clips [N, T, H, W, 3] in, clips of the same shape out."""

    def __init__(self, clips: Levels, out: Floats, augment: ClipAugment, last: Floats) -> None:
        self._in, self._out, self._last = clips, out, last
        self._maps = colour_maps(augment)
        identity = np.eye(3, 4, dtype=np.float32)
        self._recolour = np.abs(self._maps - identity).max(axis=(1, 2)) > 1e-5  # below any rounding
        self._flip = augment.flip.reshape(-1) != 0
        self._sigma = augment.sigma.reshape(-1)
        self._window = blur_window(self._sigma)

    def clips(self, numbers: Iterator[int]) -> None:
        """Do clips until there are no numbers left; several threads may share `numbers`."""
        frames, height, width, channels = self._in.shape[1:]
        tall = (frames * height, width, channels)
        scratch = np.empty((2, *tall), np.uint8)
        for number in numbers:
            levels = self._in[number].reshape(tall)
            if self._flip[number]:
                levels = cv2.flip(levels, 1, dst=scratch[0])
            if self._recolour[number]:
                levels = cv2.transform(levels, self._maps[number], dst=scratch[1])
            taps = None
            if self._sigma[number] > 0:
                taps = cv2.getGaussianKernel(int(self._window[number]), float(self._sigma[number]), cv2.CV_32F)
            # Frame by frame: one stays in the core's own cache from the blur to the normalisation.
            for frame, out in zip(levels.reshape(self._in.shape[1:]), self._out[number], strict=True):
                if taps is None:
                    np.copyto(out, frame)
                else:
                    cv2.sepFilter2D(frame, cv2.CV_32F, taps, taps, dst=out)
                cv2.transform(out, self._last, dst=out)
