"""Resize, flip, colours, blur, normalisation of decoded clips on a CPU: DALI's operators, several times as fast.

DALI works frame by frame and runs every operator on every frame. Here a clip is one picture T * H pixels high, all
colour operators are one 3x4 map, and a clip passes only the steps that change it. OpenCV's and torch's loops use the
whole width of the CPU's registers and let go of Python's lock, so clips are done side by side in threads (these
functions of OpenCV start none of their own).

    uint8 --resize?--> uint8 --flip?--> uint8 --3x4 map?--> uint8 --blur?--> frames --minus each other?--> float32
          --3x4 map--> normalised float32 --(the sample's last clip is done: pretext transform, in the cache)--> float32

Differences of frames need no mean taken away, so they are taken before the normalisation, where frames are still bytes;
only where the pretext transform changes the order of frames, they are taken after it.

It differs from the graph by rounding alone: by a level at most here and there where clips are resized or colours
change, and by the half level that the graph rounds away behind a blur (see `colours` for the maths).
"""

import itertools
import weakref
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from pclkd.pipeline.clips.augment import ClipAugment
from pclkd.pipeline.pixels.colours import colour_maps, gaussian_taps, normalised
from pclkd.pipeline.pixels.finish import ClipFinish

__all__ = ["BufferPool", "FusedColours"]


class BufferPool:
    """Hands out float32 arrays; safe to use from several threads.

    Who takes an array owns it alone, and need not give it back: when neither it nor a tensor that was made of it is
    left, its memory is kept for the next one of that size. Make tensors of it (`torch.from_numpy`), not further arrays:
    numpy's views hold on to the memory alone, and would find another batch in it.

    Args:
        spare: unused buffers that are kept; others go back to the system.
    """

    def __init__(self, spare: int = 2) -> None:
        self._free: deque[NDArray[np.float32]] = deque(maxlen=spare)

    def take(self, shape: tuple[int, ...]) -> NDArray[np.float32]:
        """An array of that shape, filled with anything."""
        try:
            memory = self._free.pop()
        except IndexError:
            memory = np.empty(shape, np.float32)
        if memory.shape != shape:
            memory = np.empty(shape, np.float32)
        lent = memory.view()
        back = weakref.finalize(lent, self._free.append, memory)
        back.atexit = False  # the program's memory goes as a whole
        return lent

    def clear(self) -> None:
        """Give unused buffers back to the system."""
        self._free.clear()


Levels = NDArray[np.uint8]
Floats = NDArray[np.float32]


class FusedColours:
    """Turns uint8 windows into what the network takes.

    Args:
        crop: (H, W) of the clips, in pixels.
        threads: clips done at once; the calling thread is one of them.
        last: the normalisation, as `normalised` gives it; by default ImageNet's.
    """

    def __init__(self, crop: tuple[int, int], threads: int, last: Floats | None = None) -> None:
        self._crop = crop
        self._threads = threads
        self._pool = ThreadPoolExecutor(threads - 1, thread_name_prefix="pclkd-colours") if threads > 1 else None
        self._normalised = normalised() if last is None else last
        self._buffers = BufferPool()

    def apply(
        self,
        frames: Levels | Sequence[Levels],
        augment: ClipAugment,
        finish: ClipFinish | None = None,
        shown: Sequence[int] | None = None,
    ) -> torch.Tensor:
        """Resize, flip, change colours, blur and normalise; then finish the samples one by one.

        Args:
            frames: [B * V * T, H, W, 3] RGB, clip after clip; or as many windows [h, w, 3], of one size within a clip.
            augment: parameters [B, V].
            finish: what is done to each sample in the end.
            shown: frames of a clip that are looked at afterwards; None: all. The others hold anything.

        Returns:
            [B, V, T, H, W, 3] float32, normalised; the caller's alone.
        """
        clips = augment.flip.size
        out = self._buffers.take((clips, len(frames) // clips, *self._crop, 3))
        work = _Work(frames, out, augment, self._normalised, finish or ClipFinish(), shown)
        # Threads take the next clip when they are done with one: blurred clips take several times as long as others.
        numbers = iter(range(clips))
        others = [self._pool.submit(work.clips, numbers) for _ in range(self._threads - 1)] if self._pool else []
        work.clips(numbers)
        for other in others:
            other.result()
        return torch.from_numpy(out).view(*augment.flip.shape, *out.shape[1:])

    def close(self) -> None:
        """End the threads and give unused memory back."""
        if self._pool:
            self._pool.shutdown()
        self._buffers.clear()


class _Work:
    """One batch: N * T windows in, clips [N, T, H, W, 3] out, V of them a sample."""

    def __init__(
        self,
        frames: Levels | Sequence[Levels],
        out: Floats,
        augment: ClipAugment,
        last: Floats,
        finish: ClipFinish,
        shown: Sequence[int] | None,
    ) -> None:
        self._in, self._out, self._last, self._finish = frames, out, last, finish
        samples, self._views = augment.flip.shape
        self._differences = finish.differences_first(samples)
        # A task that changes the order of a sample's frames needs them all.
        self._some = np.zeros(samples, np.bool_)
        if shown is not None and not finish.residual:
            self._some = finish.keeps_time(samples)
        self._shown = sorted(set(shown or ()))
        self._done = [itertools.count(1) for _ in range(samples)]  # of each sample's clips; a step is atomic
        self._maps = colour_maps(augment)
        identity = np.eye(3, 4, dtype=np.float32)
        self._recolour = np.abs(self._maps - identity).max(axis=(1, 2)) > 1e-5  # below any rounding
        self._flip = augment.flip.reshape(-1) != 0
        self._sigma = augment.sigma.reshape(-1)

    def clips(self, numbers: Iterator[int]) -> None:
        """Do clips until there are no numbers left; several threads may share `numbers`."""
        frames, height, width, channels = shape = self._out.shape[1:]
        scratch = np.empty((2, frames * height, width, channels), np.uint8)
        blurred = np.empty((3, height, width, channels), np.float32)
        for number in numbers:
            sample = number // self._views
            windows, outs = self._in[number * frames : (number + 1) * frames], self._out[number]
            if self._some[sample]:
                windows, outs = [windows[t] for t in self._shown], [outs[t] for t in self._shown]
            levels: Any = self._resized(windows, (height, width)).reshape(-1, width, channels)
            flipped, recoloured = scratch[:, : len(levels)]
            if self._flip[number]:
                levels = cv2.flip(levels, 1, dst=flipped)
            if self._recolour[number]:
                levels = cv2.transform(levels, self._maps[number], dst=recoloured)
            taps = gaussian_taps(float(self._sigma[number])) if self._sigma[number] > 0 else None
            # Frame by frame: one stays in the core's own cache from the blur to the normalisation.
            if self._differences[sample]:
                self._subtract(levels.reshape(shape), taps, self._out[number], blurred)
            else:
                for frame, out in zip(levels.reshape(-1, *shape[1:]), outs, strict=True):
                    if taps is None:
                        np.copyto(out, frame)
                    else:
                        cv2.sepFilter2D(frame, cv2.CV_32F, taps, taps, dst=out)
                    cv2.transform(out, self._last, dst=out)
            if next(self._done[sample]) == self._views:
                clips = self._out[sample * self._views : (sample + 1) * self._views]
                # [V, T, H, W, C] -> [1, V, C, T, H, W]
                rows = torch.from_numpy(clips)[None].permute(0, 1, 5, 2, 3, 4)
                self._finish.sample_(sample, rows, differences=bool(self._differences[sample]))

    def _subtract(self, frames: Levels, taps: NDArray[Any] | None, out: Floats, blurred: Floats) -> None:
        """Each frame's predecessor minus the frame, the last one's before the first; see `residual`.

        Args:
            frames: [T, H, W, 3].
            taps: of the blur, or None.
            out: [T, H, W, 3].
            blurred: [3, H, W, 3], room for frames.
        """
        scale = self._last[:, :3]  # the mean is in both frames
        if taps is None:
            for t in range(len(frames)):
                cv2.subtract(frames[t - 1], frames[t], dst=out[t], dtype=cv2.CV_32F)
                cv2.transform(out[t], scale, dst=out[t])
            return
        first, before, now = blurred
        cv2.sepFilter2D(frames[0], cv2.CV_32F, taps, taps, dst=first)
        np.copyto(before, first)
        for t in range(1, len(frames)):
            cv2.sepFilter2D(frames[t], cv2.CV_32F, taps, taps, dst=now)
            cv2.subtract(before, now, dst=out[t])
            cv2.transform(out[t], scale, dst=out[t])
            before, now = now, before
        cv2.subtract(before, first, dst=out[0])
        cv2.transform(out[0], scale, dst=out[0])

    @staticmethod
    def _resized(windows: Levels | Sequence[Levels], size: tuple[int, int]) -> Levels:
        """[T, H, W, 3]: a triangle filter with antialiasing, that of torchvision, unless they have that size."""
        clip = windows if isinstance(windows, np.ndarray) else np.stack(windows)
        if clip.shape[1:3] == size:
            return clip
        # Channels last in memory: torch's quick way for uint8.
        pictures = torch.from_numpy(clip).permute(0, 3, 1, 2)
        resized = torch.nn.functional.interpolate(pictures, size, mode="bilinear", antialias=True)
        levels: Levels = resized.permute(0, 2, 3, 1).contiguous().numpy()
        return levels
