"""The residual video network that R3D and R(2+1)D share; they differ in what a convolution is.

Source: Tran et al., "A Closer Look at Spatiotemporal Convolutions for Action Recognition", arXiv 1711.11248, in the
form that PCL (arXiv 2010.15464) trains. The module names are those of its published checkpoints.
"""

from collections.abc import Sequence
from typing import Protocol, cast

import torch
import torch.nn.functional as F
from torch import nn

from pclkd.training.models.base import MappingBackbone, initialise, scaled

__all__ = ["R3D", "Convolution", "R2Plus1D", "ResidualNetwork", "Triple", "channels_between"]


Triple = tuple[int, int, int]


class Convolution(Protocol):
    """Makes a convolution over (T, H, W) without a bias."""

    def __call__(self, before: int, after: int, kernel: Triple, stride: Triple, padding: Triple) -> nn.Module:
        """A module [N, before, T, H, W] -> [N, after, T', H', W']."""
        ...


class _Block(nn.Module):
    """conv-BN-ReLU-conv-BN, plus the shortcut, ReLU."""

    def __init__(self, convolution: Convolution, before: int, after: int, *, halve: bool) -> None:
        super().__init__()
        stride = (2, 2, 2) if halve else (1, 1, 1)
        self.halve = halve
        if halve:
            self.downsampleconv = convolution(before, after, (1, 1, 1), stride, (0, 0, 0))
            self.downsamplebn = nn.BatchNorm3d(after)
        self.conv1 = convolution(before, after, (3, 3, 3), stride, (1, 1, 1))
        self.bn1 = nn.BatchNorm3d(after)
        self.conv2 = convolution(after, after, (3, 3, 3), (1, 1, 1), (1, 1, 1))
        self.bn2 = nn.BatchNorm3d(after)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        residual = F.relu(self.bn1(self.conv1(x)), inplace=True)
        residual = self.bn2(self.conv2(residual))
        shortcut = self.downsamplebn(self.downsampleconv(x)) if self.halve else x
        return F.relu(residual.add_(shortcut), inplace=True)


class _Stage(nn.Module):
    """`depth` blocks; the first may halve T, H and W."""

    def __init__(self, convolution: Convolution, before: int, after: int, depth: int, *, halve: bool) -> None:
        super().__init__()
        self.block1 = _Block(convolution, before, after, halve=halve)
        self.blocks = nn.ModuleList(_Block(convolution, after, after, halve=False) for _ in range(depth - 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.block1(x)
        for block in self.blocks:
            x = block(x)
        return x


class ResidualNetwork(MappingBackbone):
    """Stem 3x7x7 with stride (1, 2, 2), four stages of residual blocks, global average.

    Args:
        convolution: what a convolution is: whole for R3D, factorised for R(2+1)D.
        depths: blocks in each of the four stages.
        width: factor on every channel count.
    """

    def __init__(self, convolution: Convolution, depths: Sequence[int], width: float) -> None:
        super().__init__()
        channels = [scaled(c, width) for c in (64, 128, 256, 512)]
        self.conv1 = convolution(3, channels[0], (3, 7, 7), (1, 2, 2), (1, 3, 3))
        self.bn1 = nn.BatchNorm3d(channels[0])
        self.conv2 = _Stage(convolution, channels[0], channels[0], depths[0], halve=False)
        self.conv3 = _Stage(convolution, channels[0], channels[1], depths[1], halve=True)
        self.conv4 = _Stage(convolution, channels[1], channels[2], depths[2], halve=True)
        self.conv5 = _Stage(convolution, channels[2], channels[3], depths[3], halve=True)
        self.feature_dim = channels[3]
        initialise(self)

    def maps(self, clips: torch.Tensor) -> torch.Tensor:
        """Of the last stage [N, feature_dim, t, h, w]."""
        x = F.relu(self.bn1(self.conv1(clips)), inplace=True)
        for stage in (self.conv2, self.conv3, self.conv4, self.conv5):
            x = stage(x)
        return x


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
