"""Further views of a moment: what another network is shown of the frames that a clip was made of.

    frames of a clip, T = 16    0  1  2  3  4  5  6  7  8  9 10 11 12 13 14 15
    4 frames, spread                  x           x           x           x
    4 frames, stride 2                         x     x     x     x
    1 frame                                             x
    32 frames, spread           each of them twice

The window in the stored frames, the flip and what the pretext task does are the clip's own: the two networks see one
moment, each in the size, the frame rate and the normalisation that it was trained with.
"""

from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from pclkd.sharding.common.errors import InputError
from pclkd.sharding.common.settings import Settings

__all__ = ["MEAN", "STD", "MomentView"]

MEAN = (0.485, 0.456, 0.406)
"""ImageNet channel means of RGB in [0, 1]."""
STD = (0.229, 0.224, 0.225)
"""ImageNet channel standard deviations of RGB in [0, 1]."""


class MomentView(Settings):
    """How a network wants to see a clip."""

    frames: int = Field(default=16, ge=1, le=1024)
    """Frames that it is shown."""
    size: int = Field(default=112, ge=8, multiple_of=2)
    """Height and width, in pixels: the clip's window is resized to it."""
    stride: int = Field(default=0, ge=0)
    """Frames of the clip from one that is shown to the next, around the clip's middle; 0 spreads them over the clip,
    and repeats some where the clip has fewer."""
    modality: Literal["rgb", "residual"] = "rgb"
    """The frames themselves, or each one minus the one that is shown before it."""
    mean: tuple[float, float, float] = MEAN
    """Of R, G and B in [0, 1], taken away from the pixels."""
    std: tuple[float, float, float] = STD
    """Of R, G and B, that the pixels are divided by."""
    colours: bool = True
    """Whether it sees the clip's random colours and blur (scaled to its size); else the colours as they were stored."""

    def chosen(self, clip_frames: int) -> NDArray[np.int64]:
        """[frames] which of a clip's frames are shown.

        Raises:
            InputError: they reach beyond the clip.
        """
        if not self.stride:
            return (2 * np.arange(self.frames) + 1) * clip_frames // (2 * self.frames)
        reach = (self.frames - 1) * self.stride + 1
        if reach > clip_frames:
            raise InputError(
                f"{self.frames} frames at stride {self.stride} reach over {reach} frames, a clip has {clip_frames}",
                remedy="spread them with stride 0, show fewer, or --set tuples.clip_frames="
                f"{-(-reach // 4) * 4} or more",
            )
        return (clip_frames - reach) // 2 + self.stride * np.arange(self.frames)
