"""C3D with batch norm and global pooling: eight 3x3x3 convolutions.

Source: Tran et al., "Learning Spatiotemporal Features with 3D Convolutional Networks", arXiv 1412.0767, in the form
that PCL (arXiv 2010.15464) trains: batch norm after each convolution, a global average instead of fc6 and fc7.
"""

from typing import cast

import torch
import torch.nn.functional as F
from torch import nn

from pclkd.training.models.base import MappingBackbone, initialise, scaled

__all__ = ["C3D"]

# (name, published channels, pooling after it); None: no pooling.
_LAYERS: tuple[tuple[str, int, tuple[int, int, int] | None], ...] = (
    ("1", 64, (1, 2, 2)),
    ("2", 128, (2, 2, 2)),
    ("3a", 256, None),
    ("3b", 256, (2, 2, 2)),
    ("4a", 512, None),
    ("4b", 512, (2, 2, 2)),
    ("5a", 512, None),
    ("5b", 512, None),
)


class C3D(MappingBackbone):
    """C3D. Needs clips of at least 8 frames and 16 x 16 pixels: what four poolings leave something of.

    Args:
        width: factor on every channel count; 1.0 has 27,661,440 parameters.
    """

    least_frames = 8

    def __init__(self, width: float = 1.0) -> None:
        super().__init__()
        before = 3
        for name, channels, _ in _LAYERS:
            after = scaled(channels, width)
            self.add_module(f"conv{name}", nn.Conv3d(before, after, kernel_size=3, padding=1))
            self.add_module(f"bn{name}", nn.BatchNorm3d(after))
            before = after
        self.feature_dim = before
        initialise(self)

    def maps(self, clips: torch.Tensor) -> torch.Tensor:
        """Of the last convolution [N, feature_dim, t, h, w]."""
        x = clips
        for name, _, pool in _LAYERS:
            x = cast(torch.Tensor, self.get_submodule(f"conv{name}")(x))
            x = F.relu(self.get_submodule(f"bn{name}")(x), inplace=True)
            if pool is not None:
                x = F.max_pool3d(x, pool)
        return x
