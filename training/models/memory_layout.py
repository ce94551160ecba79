"""In which order clips and the weights of 3-D convolutions lie in memory: what is fast differs by device and network.

    contiguous       a channel after another: [N, C, T, H, W] as it is written
    channels-last    all channels of a pixel together: [N, T, H, W, C]; the loader's clips lie so

cuDNN wants channels-last. On a CPU it depends on the network: `bench-throughput step --options` measures it.
"""

from typing import TypeVar

import torch
from torch import nn

from pclkd.training.compute.settings import Layout

__all__ = ["arranged", "is_channels_last", "layout_of", "placed"]

Network = TypeVar("Network", bound=nn.Module)


def is_channels_last(layout: Layout, device: torch.device) -> bool:
    """What the setting means there: auto is channels-last on a GPU alone."""
    return layout == "channels-last" or (layout == "auto" and device.type == "cuda")


def placed(network: Network, device: torch.device, layout: Layout = "auto") -> Network:
    """The network on the device, its 3-D convolutions in that order, in place; all other weights stay as they are.

    Args:
        network: of any kind.
        device: where it goes.
        layout: contiguous weights stay as they are.
    """
    network = network.to(device)
    if is_channels_last(layout, device):
        for weight in network.parameters():
            if weight.ndim == 5:
                # Kernels of a single pixel, too: contiguous() takes them for both, and their gradients then come in
                # other strides than DistributedDataParallel has made its buckets for.
                weight.data = torch.empty_like(weight, memory_format=torch.channels_last_3d).copy_(weight)
    return network


def layout_of(network: nn.Module) -> torch.memory_format:
    """How its first 3-D convolution lies, and so how it wants its clips."""
    first = next((weight for weight in network.parameters() if weight.ndim == 5), None)
    if first is None or first.is_contiguous():  # kernels of a single pixel are both
        return torch.contiguous_format
    return torch.channels_last_3d


def arranged(clips: torch.Tensor, network: nn.Module) -> torch.Tensor:
    """[B, V, C, T, H, W] as the network wants it, so that several networks of one layout do not all rearrange it."""
    rows = clips.flatten(0, 1).contiguous(memory_format=layout_of(network))
    return rows.view(*clips.shape[:2], *rows.shape[1:])
