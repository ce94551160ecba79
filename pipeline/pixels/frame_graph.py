"""What a decoder of frames is asked for, and a batch that it was given."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from pclkd.pipeline.clips.augment import ClipAugment
from pclkd.pipeline.clips.moments import MomentView
from pclkd.pipeline.pixels.colours import blur_window
from pclkd.pipeline.pixels.moments import blur_of

__all__ = [
    "Colours",
    "Decoding",
    "FrameGraph",
    "Inputs",
    "UndecodableFramesError",
    "channels_first",
    "failing",
    "inputs_of",
    "levels_of",
    "reason",
    "rows_of",
]


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
        moments: further views that are made of the same decoded windows.
    """

    frames: int
    crop: tuple[int, int]
    colours: Colours
    decode: Literal["cpu", "mixed"]
    device: torch.device
    threads: int
    moments: tuple[MomentView, ...] = ()

    @property
    def turns_colours(self) -> bool:
        """Whether DALI's operators change the colours of anything: of the clips, or of a view beside the kernels."""
        return self.colours == "graph" or (self.colours == "kernels" and any(view.colours for view in self.moments))


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
        others: its outputs for the further views; none where the windows are among `frames`.
        error: why there is none.
    """

    jpegs: Sequence[NDArray[np.uint8]]
    augment: ClipAugment
    inputs: Inputs
    pipeline: Any
    resized: bool
    frames: Any = None
    others: Sequence[Any] = ()
    error: RuntimeError | None = None


def inputs_of(graph: FrameGraph, augment: ClipAugment, *, resizes: bool) -> Inputs:
    """What a graph is fed with beside the frames, a row a clip.

    Args:
        graph: the graph.
        augment: parameters [B, V].
        resizes: whether windows may be of any size.
    """
    inputs: dict[str, NDArray[Any]] = {"anchor": np.stack([augment.top, augment.left], axis=-1).reshape(-1, 2)}
    if resizes:
        inputs["shape"] = np.stack([augment.height, augment.width], axis=-1).reshape(-1, 2)
    if graph.colours == "fused" or (graph.colours == "kernels" and not graph.moments):
        return inputs
    inputs["flip"] = augment.flip.reshape(-1)
    if not graph.turns_colours:  # a pipeline has no input that nothing is made of
        return inputs
    for name in ("brightness", "contrast", "saturation", "hue"):
        inputs[name] = getattr(augment, name).reshape(-1)
    blurs = {"": augment.sigma} if graph.colours == "graph" else {}
    blurs |= {
        str(number): blur_of(augment, view, graph.crop[0]) for number, view in enumerate(graph.moments) if view.colours
    }
    for name, deviations in blurs.items():
        sigma = deviations.reshape(-1)
        inputs[f"window{name}"] = blur_window(sigma)
        inputs[f"sigma{name}"] = np.maximum(sigma, 0.1)  # DALI refuses 0; a window of one tap copies
    return inputs


def levels_of(decoding: Decoding) -> Any:
    """The uint8 windows of a batch, for `FusedColours`."""
    frames = decoding.frames
    return [frames.at(i) for i in range(len(frames))] if decoding.resized else np.asarray(frames.as_tensor())


def channels_first(clips: torch.Tensor) -> torch.Tensor:
    """[B, V, T, H, W, C] -> [B, V, C, T, H, W]: a view, whose memory is exactly that of channels_last_3d."""
    return clips.permute(0, 1, 5, 2, 3, 4)


def rows_of(
    jpegs: Sequence[NDArray[np.uint8]], inputs: Inputs, part: range
) -> tuple[Sequence[NDArray[np.uint8]], Inputs]:
    """Some frames of a batch, and what the graph is fed with for these."""
    rows = slice(part.start, part.stop)
    return jpegs[rows], {name: values[rows] for name, values in inputs.items()}
