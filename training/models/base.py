"""What every backbone shares: its interface, the scaling of its width, its first weights."""

import math

import torch
from torch import nn

from pclkd.sharding.common.errors import InputError

__all__ = ["Backbone", "MappingBackbone", "initialise", "scaled"]


class Backbone(nn.Module):
    """A network that turns a clip into one feature vector.

    Forward: clips [N, 3, T, H, W], normalised -> features [N, feature_dim].

    Attributes:
        feature_dim: length of a feature vector; 512 at width 1.
        least_frames: the shortest clip that its pooling leaves something of.
        grid_dim: length of a local feature; None where it has none.
        foreign: whether it is left as its library made it: eager, without forms for GPUs.
    """

    feature_dim: int
    least_frames: int = 1
    grid_dim: int | None = None
    foreign: bool = False

    def forward(self, clips: torch.Tensor) -> torch.Tensor:
        """Features [N, feature_dim] of clips [N, 3, T, H, W]."""
        raise NotImplementedError

    def look(self, clips: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Features [N, feature_dim] and local ones [N, grid_dim, t, h, w], None where there are none."""
        return self(clips), None


class MappingBackbone(Backbone):
    """One whose features are the mean of its last maps; it says what the maps are."""

    feature_dim: int

    @property
    def grid_dim(self) -> int:  # type: ignore[override]
        """The channels of its maps."""
        return self.feature_dim

    def maps(self, clips: torch.Tensor) -> torch.Tensor:
        """[N, feature_dim, t, h, w] of clips [N, 3, T, H, W]."""
        raise NotImplementedError

    def forward(self, clips: torch.Tensor) -> torch.Tensor:
        """Features [N, feature_dim] of clips [N, 3, T, H, W]."""
        return self.maps(clips).mean(dim=(2, 3, 4))

    def look(self, clips: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
        """As in Backbone."""
        maps = self.maps(clips)
        return maps.mean(dim=(2, 3, 4)), maps


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
