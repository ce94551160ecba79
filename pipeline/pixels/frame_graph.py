"""What a decoder of frames is asked for, and a batch that it was given."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from pclkd.pipeline.clips.augment import ClipAugment

__all__ = ["Colours", "Decoding", "FrameGraph", "Inputs", "UndecodableFramesError", "failing", "reason"]


class UndecodableFramesError(Exception):
    """JPEGs that cannot be decoded although their bytes are those that were packed.

    Attributes:
        frames: their positions in the batch, ascending.
    """

    def __init__(self, frames: Sequence[int], reason: str) -> None:
        self.frames = tuple(frames)
        super().__init__(
            f"{len(frames)} frames of the batch cannot be decoded, the first is number {frames[0]}: {reason}"
        )


def failing(count: int, attempt: Callable[[range], object]) -> list[int]:
    """Which of `count` frames fail, ascending, by halving what fails; a single bad one takes about 2 log2(count) tries.

    Args:
        count: frames.
        attempt: raises RuntimeError where a frame of the range fails.
    """
    found, parts = [], [range(count)] if count else []
    while parts:
        part = parts.pop()
        try:
            attempt(part)
        except RuntimeError:
            if len(part) == 1:
                found.append(part.start)
            else:
                middle = len(part) // 2
                parts += [part[middle:], part[:middle]]
    return sorted(found)


def reason(error: RuntimeError) -> str:
    """What happened, out of the many lines of an error of DALI's."""
    text = str(error).rpartition("encountered:")[2]
    for end in ("C++ context:", "Current pipeline object"):
        text = text.partition(end)[0]
    return " ".join(text.split())


Colours = Literal["none", "graph", "fused", "kernels"]
Inputs = Mapping[str, NDArray[Any]]


@dataclass(frozen=True)
class FrameGraph:
    """What the graph does; everything else is fed with the batch.

    Attributes:
        frames: frames a batch (B * V * T).
        crop: height and width of the output, in pixels.
        colours: who flips, changes colours, blurs and normalises. "graph": DALI's operators, frame by frame. "none":
            the same without colours and blur. "fused": our own steps clip by clip, on the CPU alone, where DALI's cost
            more than decoding; clips without colour changes cost nothing extra. "kernels": the same steps on a GPU.
        decode: where JPEGs are decoded; "mixed" is nvJPEG on the GPU.
        device: where frames are augmented and delivered.
        threads: CPU threads.
    """

    frames: int
    crop: tuple[int, int]
    colours: Colours
    decode: Literal["cpu", "mixed"]
    device: torch.device
    threads: int


@dataclass(eq=False)
class Decoding:
    """A batch that DALI was given.

    Attributes:
        jpegs: B * V * T encoded frames.
        augment: parameters [B, V].
        inputs: what the graph was fed with beside the frames, a row a frame.
        pipeline: that works on it.
        resized: whether its windows may be of different sizes.
        frames: DALI's output, once it was waited for.
        error: why there is none.
    """

    jpegs: Sequence[NDArray[np.uint8]]
    augment: ClipAugment
    inputs: Inputs
    pipeline: Any
    resized: bool
    frames: Any = None
    error: RuntimeError | None = None
