"""What a decoder of frames is asked for."""

from dataclasses import dataclass
from typing import Literal

import torch

__all__ = ["Colours", "FrameGraph"]

Colours = Literal["none", "graph", "fused"]


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
