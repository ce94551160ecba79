"""R(2+1)D: R3D with every convolution factorised into space and time.

Source: Tran et al., arXiv 1711.11248, in the form of the published PCL code (arXiv 2010.15464): the channels between
the two parts are computed for each convolution on its own, and stem and shortcuts are factorised too. torchvision's
r2plus1d_18 does neither and so has fewer parameters.
"""

from collections.abc import Sequence
from typing import cast

import torch
import torch.nn.functional as F
from torch import nn

from pclkd.training.models.resnet import ResidualNetwork, Triple

__all__ = ["R2Plus1D", "channels_between"]


def channels_between(before: int, after: int, kernel: Triple) -> int:
    """Channels M between the two parts, so that they have about the parameters of the whole convolution.

    M = floor(k_t k_h k_w C_in C_out / (k_h k_w C_in + k_t C_out)), at least 1.
    """
    t, h, w = kernel
    return max(1, t * h * w * before * after // (h * w * before + t * after))


class _FactorisedConvolution(nn.Module):
    """1 x k x k convolution, BN, ReLU, k x 1 x 1 convolution."""

    def __init__(self, before: int, after: int, kernel: Triple, stride: Triple, padding: Triple) -> None:
        super().__init__()
        between = channels_between(before, after, kernel)
        self.spatial_conv = nn.Conv3d(
            before, between, (1, *kernel[1:]), (1, *stride[1:]), (0, *padding[1:]), bias=False
        )
        self.bn = nn.BatchNorm3d(between)
        self.temporal_conv = nn.Conv3d(
            between, after, (kernel[0], 1, 1), (stride[0], 1, 1), (padding[0], 0, 0), bias=False
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.relu(self.bn(self.spatial_conv(x)), inplace=True)
        return cast(torch.Tensor, self.temporal_conv(x))


class R2Plus1D(ResidualNetwork):
    """R(2+1)D.

    Args:
        width: factor on the channel counts; 1.0 has 14,365,303 parameters with one block a stage. The channels
            between the parts of a convolution follow from the scaled ones.
        depths: blocks in each of the four stages.
    """

    def __init__(self, width: float = 1.0, depths: Sequence[int] = (1, 1, 1, 1)) -> None:
        super().__init__(_FactorisedConvolution, depths, width)
