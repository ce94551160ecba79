"""What every backbone shares: its interface, the scaling of its width, its first weights."""

import math

import torch
from torch import nn

from pclkd.sharding.common.errors import InputError

__all__ = ["Backbone", "initialise", "scaled"]


class Backbone(nn.Module):
    """A network that turns a clip into one feature vector.

    Forward: clips [N, 3, T, H, W], normalised -> features [N, feature_dim].

    Attributes:
        feature_dim: length of a feature vector; 512 at width 1.
        least_frames: the shortest clip that its pooling leaves something of.
    """

    feature_dim: int
    least_frames: int = 1

    def forward(self, clips: torch.Tensor) -> torch.Tensor:
        """Features [N, feature_dim] of clips [N, 3, T, H, W]."""
        raise NotImplementedError


def scaled(channels: int, width: float) -> int:
    """`channels` times `width`, rounded to a multiple of 8, at least 8.

    Raises:
        InputError: the width is not a positive finite number.
    """
    if not (math.isfinite(width) and width > 0):
        raise InputError(f"backbone width {width} is not a positive number", remedy="1.0 is the published network")
    return max(8, int(channels * width / 8 + 0.5) * 8)


def initialise(network: nn.Module) -> None:
    """He-normal convolutions, zero biases.

    Fan-out keeps the variance of the gradients through the ReLUs, as the residual networks of the field do.
    Batch norms keep torch's own start (weight 1, bias 0).

    Source: He et al., "Delving Deep into Rectifiers", arXiv 1502.01852.
    """
    for module in network.modules():
        if isinstance(module, nn.Conv3d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
