"""JPEG bytes to augmented frames: the only module that knows NVIDIA DALI.

In this graph a sample is a frame. One batch is all frames of all clips, so a single image-decoder node sees all of
them at once (what nvJPEG wants), and every operator takes its parameters per frame: one draw a clip, repeated.

    jpeg --decode the window--> uint8 --resize?--> --color_twist--> --gaussian_blur--> --crop_mirror_normalize-->
                                      '------------------------------------------------------------------------'
                                        on the CPU `fused` does these, several times as fast

Traps met and kept away from: `exec_dynamic=True` so that a failing batch does not spoil the next ones and outputs
that are kept are not overwritten; no strided slices inside the graph; checksums before DALI sees a byte.
The decoder's `use_fast_idct` is left off: no faster on the CPU, and up to 8 levels off (mean 1.0).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from nvidia.dali import backend, fn, pipeline_def, types

from pclkd.pipeline.augment import ClipAugment
from pclkd.pipeline.colours import MEAN, STD, blur_window
from pclkd.pipeline.fused import FusedColours

__all__ = ["MEAN", "STD", "Colours", "FrameDecoder", "FrameGraph", "UndecodableFramesError", "release_unused_memory"]

Colours = Literal["none", "graph", "fused"]
Inputs = Mapping[str, NDArray[Any]]


@dataclass(frozen=True)
class FrameGraph:
    """What the graph does; everything else is fed with the batch.

    Attributes:
        frames: frames a batch (B * V * T).
        crop: height and width of the output, in pixels.
        colours: who flips, changes colours, blurs and normalises. "graph": DALI's operators, frame by frame. "none":
            the same without colours and blur. "fused": our own steps clip by clip, on the CPU alone, where DALI's cost
            more than decoding; clips without colour changes cost nothing extra. `FrameGraph.best_colours` chooses.
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

    @staticmethod
    def best_colours(device: torch.device, *, changed: bool) -> Colours:
        """The fastest way on `device`.

        Args:
            device: where frames are delivered.
            changed: whether any clip's colours or sharpness may change (`Recipe.colours`).
        """
        if device.type == "cpu":
            return "fused"
        return "graph" if changed else "none"


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


class FrameDecoder:
    """A DALI pipeline that decodes, crops, changes colour, blurs, flips and normalises frames.

    Raises:
        ValueError: fused colours on a GPU.
    """

    def __init__(self, graph: FrameGraph) -> None:
        if graph.colours == "fused" and graph.device.type != "cpu":
            raise ValueError("fused colours are for the CPU; on a GPU DALI's operators are part of the graph")
        self.graph = graph
        self._fused = FusedColours(graph.crop, graph.threads) if graph.colours == "fused" else None
        self._resizes = False
        self._pipeline = _build(graph, _plain_frames)

    def decode(self, jpegs: Sequence[NDArray[np.uint8]], augment: ClipAugment) -> torch.Tensor:
        """Decode the frames of B * V clips.

        Args:
            jpegs: B * V * T encoded frames, clip after clip.
            augment: parameters [B, V]; a clip's are used for all of its T frames.

        Returns:
            [B * V * T, H, W, 3] float32 on the graph's device, normalised; the caller's alone.

        Raises:
            UndecodableFramesError: some JPEGs cannot be decoded or are smaller than their window. The batch is lost,
                the next one is not.
            RuntimeError: DALI failed at something else.
        """
        height, width = self.graph.crop
        if not self._resizes and not ((augment.height == height) & (augment.width == width)).all():
            # Once is enough: the graph that resizes leaves windows of the clip's size as they are.
            self._resizes, self._pipeline = True, _build(self.graph, _resized_frames)
        repeats = self.graph.frames // augment.flip.size
        inputs = {name: np.repeat(values, repeats, axis=0) for name, values in self._inputs(augment).items()}
        try:
            frames = _run(self._pipeline, jpegs, inputs)
        except RuntimeError as error:
            if "fn.decoders" not in str(error) or "CUDA" in _reason(error):
                raise  # not the data
            bad = _failing(len(jpegs), lambda part: _run(self._pipeline, *_rows(jpegs, inputs, part)))
            if not bad:
                raise
            raise UndecodableFramesError(bad, _reason(error)) from error
        if self._fused is None:
            tensor: torch.Tensor = torch.utils.dlpack.from_dlpack(frames.as_tensor())
            return tensor
        levels = [frames.at(i) for i in range(len(frames))] if self._resizes else np.asarray(frames.as_tensor())
        return torch.from_numpy(self._fused.apply(levels, augment))

    def find_undecodable(self, jpegs: Sequence[NDArray[np.uint8]]) -> list[int]:
        """Positions of the JPEGs that cannot be decoded as a whole, ascending.

        Slow, and independent of windows: for looking into a batch that failed. `UndecodableFramesError.frames` tells
        the same for the batch at hand.

        Args:
            jpegs: at most B * V * T encoded frames.
        """
        pipeline = _build(self.graph, _whole_frames)
        return _failing(len(jpegs), lambda part: _run(pipeline, *_rows(jpegs, {}, part)))

    def close(self) -> None:
        """End all threads."""
        if self._fused is not None:
            self._fused.close()

    def _inputs(self, augment: ClipAugment) -> Inputs:
        """Inputs of the graph, a row a clip."""
        inputs: dict[str, NDArray[Any]] = {"anchor": np.stack([augment.top, augment.left], axis=-1).reshape(-1, 2)}
        if self._resizes:
            inputs["shape"] = np.stack([augment.height, augment.width], axis=-1).reshape(-1, 2)
        if self.graph.colours != "fused":
            inputs["flip"] = augment.flip.reshape(-1)
        if self.graph.colours == "graph":
            for name in ("brightness", "contrast", "saturation", "hue"):
                inputs[name] = getattr(augment, name).reshape(-1)
            sigma = augment.sigma.reshape(-1)
            inputs["window"] = blur_window(sigma)
            inputs["sigma"] = np.maximum(sigma, 0.1)  # DALI refuses 0; a window of one tap copies whatever it is
        return inputs


def release_unused_memory() -> None:
    """Give memory back that DALI's pools keep for graphs that are gone."""
    backend.ReleaseUnusedMemory()  # type: ignore[attr-defined]


def _build(graph: FrameGraph, define: Callable[[FrameGraph], Any]) -> Any:
    device_id = graph.device.index or 0 if graph.device.type == "cuda" else None
    pipeline = pipeline_def(
        batch_size=graph.frames,
        num_threads=graph.threads,
        device_id=device_id,
        prefetch_queue_depth=1,
        exec_dynamic=True,
    )(define)(graph)
    pipeline.build()
    return pipeline


def _run(pipeline: Any, jpegs: Sequence[NDArray[np.uint8]], inputs: Inputs) -> Any:
    """The pipeline's output; its memory is not used again as long as that lives."""
    for name, values in inputs.items():
        pipeline.feed_input(name, values)
    pipeline.feed_input("jpeg", list(jpegs))
    (frames,) = pipeline.run()
    return frames


def _rows(
    jpegs: Sequence[NDArray[np.uint8]], inputs: Inputs, part: range
) -> tuple[Sequence[NDArray[np.uint8]], Inputs]:
    rows = slice(part.start, part.stop)
    return jpegs[rows], {name: values[rows] for name, values in inputs.items()}


def _failing(count: int, attempt: Callable[[range], object]) -> list[int]:
    """Which of `count` frames fail, by halving what fails; a single bad one takes about 2 log2(count) tries."""
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


def _reason(error: RuntimeError) -> str:
    """What happened, out of DALI's many lines."""
    text = str(error).rpartition("encountered:")[2]
    for end in ("C++ context:", "Current pipeline object"):
        text = text.partition(end)[0]
    return " ".join(text.split())


def _fed(name: str, dtype: types.DALIDataType, ndim: int) -> Any:
    return fn.external_source(name=name, dtype=dtype, ndim=ndim, batch=True)


def _plain_frames(graph: FrameGraph) -> Any:
    """Windows of the clip's size."""
    return _finished(graph, _windows(graph, list(graph.crop)))


def _resized_frames(graph: FrameGraph) -> Any:
    """Windows of any size; a triangle filter with antialiasing, as torchvision's bilinear one, resizes them."""
    frames = _windows(graph, _fed("shape", types.INT32, 1))
    if graph.colours != "fused":
        frames = fn.resize(frames, size=list(graph.crop), interp_type=types.INTERP_LINEAR, antialias=True)
    return _finished(graph, frames)


def _whole_frames(graph: FrameGraph) -> Any:
    return fn.decoders.image(_fed("jpeg", types.UINT8, 1), device=graph.decode, output_type=types.RGB)


def _windows(graph: FrameGraph, shape: Any) -> Any:
    frames = fn.decoders.image_slice(
        _fed("jpeg", types.UINT8, 1),
        _fed("anchor", types.INT32, 1),
        shape,
        axis_names="HW",
        device=graph.decode,
        output_type=types.RGB,
    )
    return frames.gpu() if graph.device.type == "cuda" else frames


def _finished(graph: FrameGraph, frames: Any) -> Any:
    if graph.colours == "fused":
        return frames
    if graph.colours == "graph":
        names = ("brightness", "contrast", "saturation", "hue")
        frames = fn.color_twist(frames, **{name: _fed(name, types.FLOAT, 0) for name in names})
        sigma, window = _fed("sigma", types.FLOAT, 0), _fed("window", types.INT32, 0)
        frames = fn.gaussian_blur(frames, sigma=sigma, window_size=window)
    return fn.crop_mirror_normalize(
        frames,
        mirror=_fed("flip", types.INT32, 0),
        mean=[255 * value for value in MEAN],
        std=[255 * value for value in STD],
        dtype=types.FLOAT,
        output_layout="HWC",
    )
