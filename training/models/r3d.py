"""R3D: a residual network of whole 3-D convolutions.

Source: Tran et al., arXiv 1711.11248. The PCL experiments (arXiv 2010.15464) call the network with one block a stage
R3D and the one with two blocks R3D-18; the latter is torchvision's r3d_18.
"""

from collections.abc import Sequence
from typing import cast

import torch
from torch import nn

from pclkd.training.models.resnet import ResidualNetwork, Triple

__all__ = ["R3D"]


class _WholeConvolution(nn.Module):
    """One convolution over space and time. The wrapper gives the weight its published name."""

    def __init__(self, before: int, after: int, kernel: Triple, stride: Triple, padding: Triple) -> None:
        super().__init__()
        self.temporal_spatial_conv = nn.Conv3d(before, after, kernel, stride, padding, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return cast(torch.Tensor, self.temporal_spatial_conv(x))


class R3D(ResidualNetwork):
    """R3D.

    Args:
        width: factor on every channel count; 1.0 has 14,361,792 parameters with one block a stage.
        depths: blocks in each of the four stages.
    """

    def __init__(self, width: float = 1.0, depths: Sequence[int] = (1, 1, 1, 1)) -> None:
        super().__init__(_WholeConvolution, depths, width)
