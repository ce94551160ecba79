"""JPEG bytes to augmented frames: the only module that knows NVIDIA DALI.

In this graph a sample is a frame. One batch is all frames of all clips, so a single image-decoder node sees all of
them at once (what nvJPEG wants), and every operator takes its parameters per frame: one draw a clip, repeated.

Traps met and kept away from: `exec_dynamic=True` so that a failing batch does not spoil the next ones and outputs
that are kept are not overwritten; no strided slices inside the graph; checksums before DALI sees a byte.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from nvidia.dali import fn, pipeline_def, types

from pclkd.pipeline.augment import ClipAugment

__all__ = ["MEAN", "STD", "FrameDecoder", "FrameGraph"]

MEAN = (0.485, 0.456, 0.406)
"""ImageNet channel means of RGB in [0, 1]."""
STD = (0.229, 0.224, 0.225)
"""ImageNet channel standard deviations of RGB in [0, 1]."""


@dataclass(frozen=True)
class FrameGraph:
    """What the graph does; everything else is fed with the batch.

    Attributes:
        frames: frames a batch (B * V * T).
        crop: height and width of the output, in pixels.
        colours: whether colour jitter and blur are part of the graph. On a CPU they cost more than decoding.
        decode: where JPEGs are decoded; "mixed" is nvJPEG on the GPU.
        device: where frames are augmented and delivered.
        threads: CPU threads.
    """

    frames: int
    crop: tuple[int, int]
    colours: bool
    decode: Literal["cpu", "mixed"]
    device: torch.device
    threads: int


class FrameDecoder:
    """A DALI pipeline that decodes, crops, changes colour, blurs, flips and normalises frames."""

    def __init__(self, graph: FrameGraph) -> None:
        self.graph = graph
        device_id = graph.device.index or 0 if graph.device.type == "cuda" else None
        self._pipeline = pipeline_def(
            batch_size=graph.frames,
            num_threads=graph.threads,
            device_id=device_id,
            prefetch_queue_depth=1,
            exec_dynamic=True,
        )(_frames)(graph)
        self._pipeline.build()

    def decode(self, jpegs: Sequence[NDArray[np.uint8]], augment: ClipAugment) -> torch.Tensor:
        """Decode the frames of B * V clips.

        Args:
            jpegs: B * V * T encoded frames, clip after clip.
            augment: parameters [B, V]; a clip's are used for all of its T frames.

        Returns:
            [B * V * T, H, W, 3] float32 on the graph's device, normalised.
        """
        repeats = self.graph.frames // augment.flip.size
        for name, values in _inputs(augment, self.graph.colours).items():
            self._pipeline.feed_input(name, np.repeat(values, repeats, axis=0))
        self._pipeline.feed_input("jpeg", list(jpegs))
        (frames,) = self._pipeline.run()
        tensor: torch.Tensor = torch.utils.dlpack.from_dlpack(frames.as_tensor())
        return tensor


def _inputs(augment: ClipAugment, colours: bool) -> dict[str, NDArray[np.generic]]:
    """Per-clip inputs of the graph, [B * V, ...] each."""
    inputs: dict[str, NDArray[np.generic]] = {
        "anchor": np.stack([augment.top, augment.left], axis=-1).reshape(-1, 2),
        "flip": augment.flip.reshape(-1),
    }
    if colours:
        sigma = augment.sigma.reshape(-1)
        for name in ("brightness", "contrast", "saturation", "hue"):
            inputs[name] = getattr(augment, name).reshape(-1)
        # A window of one pixel copies the frame: that is how clips without blur pass the operator.
        inputs["window"] = np.where(sigma > 0, 2 * np.ceil(3 * sigma).astype(np.int32) + 1, 1).astype(np.int32)
        inputs["sigma"] = np.maximum(sigma, 0.1)
    return inputs


def _frames(graph: FrameGraph):  # type: ignore[no-untyped-def]
    def fed(name: str, dtype: types.DALIDataType, ndim: int):  # type: ignore[no-untyped-def]
        return fn.external_source(name=name, dtype=dtype, ndim=ndim, batch=True)

    frames = fn.decoders.image_slice(
        fed("jpeg", types.UINT8, 1),
        fed("anchor", types.INT32, 1),
        list(graph.crop),
        axis_names="HW",
        device=graph.decode,
        output_type=types.RGB,
    )
    if graph.device.type == "cuda":
        frames = frames.gpu()
    if graph.colours:
        frames = fn.color_twist(
            frames, **{name: fed(name, types.FLOAT, 0) for name in ("brightness", "contrast", "saturation", "hue")}
        )
        frames = fn.gaussian_blur(frames, sigma=fed("sigma", types.FLOAT, 0), window_size=fed("window", types.INT32, 0))
    return fn.crop_mirror_normalize(
        frames,
        mirror=fed("flip", types.INT32, 0),
        mean=[255 * value for value in MEAN],
        std=[255 * value for value in STD],
        dtype=types.FLOAT,
        output_layout="HWC",
    )
