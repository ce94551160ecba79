"""A network of your own, as student or as teacher, in every command.

    train-kd --import examples/own_backbone.py pretrain --data SHARDS --out runs/own --backbone frame_average

The network takes normalised clips [N, 3, T, H, W] and gives features [N, F], or maps [N, F, ...], which are averaged.
"""

import torch
from torch import nn

from pclkd.training import register_backbone

__all__ = ["FrameAverage"]


class FrameAverage(nn.Module):
    """A 2-D network on every frame; the maps that it gives are averaged over space and time.

    Args:
        features: F.
    """

    def __init__(self, features: int) -> None:
        super().__init__()
        self.frames = nn.Sequential(
            *(nn.Conv2d(3, 32, 7, stride=4, padding=3, bias=False), nn.BatchNorm2d(32), nn.ReLU(inplace=True)),
            *(nn.Conv2d(32, features, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(features), nn.ReLU()),
        )

    def forward(self, clips: torch.Tensor) -> torch.Tensor:
        """[N, 3, T, H, W] -> [N, F, T * h * w]."""
        count, _, frames = clips.shape[:3]
        maps: torch.Tensor = self.frames(clips.transpose(1, 2).flatten(0, 1))  # [N * T, F, h, w]
        return maps.reshape(count, frames, *maps.shape[1:]).transpose(1, 2).flatten(2)


register_backbone("frame_average", lambda: FrameAverage(64), feature_dim=64)
