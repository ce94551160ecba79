"""Where a network's weights lie: on its device, in the order that its convolutions are fast with."""

from typing import TypeVar

import torch
from torch import nn

__all__ = ["keep_channels_last", "placed"]

Network = TypeVar("Network", bound=nn.Module)


def placed(network: Network, device: torch.device) -> Network:
    """The network on the device; on a GPU with channels-last convolutions, as the loader's clips are.

    cuDNN would else rearrange the weights in every call. Off the GPU channels-last was measured to be slower.
    """
    network = network.to(device)
    if device.type == "cuda":
        keep_channels_last(network)
    return network


def keep_channels_last(network: nn.Module) -> None:
    """Rearrange the weights of 3-D convolutions, in place; all others stay, whatever their number of dimensions."""
    for weight in network.parameters():
        if weight.ndim == 5:
            weight.data = weight.data.contiguous(memory_format=torch.channels_last_3d)
