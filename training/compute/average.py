"""A moving average of weights and batch-norm statistics: what is learned, without the noise of single steps.

Source: Polyak and Juditsky, "Acceleration of Stochastic Approximation by Averaging", 1992; of weights and statistics
together as in Tarvainen and Valpola, arXiv 1703.01780.
"""

import copy
from collections.abc import Mapping
from typing import Generic, TypeVar

import torch
from torch import nn

__all__ = ["WeightAverage", "weights_of"]

_UPDATES = "updates"
Network = TypeVar("Network", bound=nn.Module)


class WeightAverage(Generic[Network]):
    """The average of a network over its updates, for measuring and for teaching; it is never trained.

    The share of the old value grows with the updates to `decay`, as (1 + n) / (10 + n): a short run would otherwise be
    measured by its first random weights. Unlike torch's AveragedModel it never asks the device for anything.

    Args:
        network: to follow, on its device and in its memory layout.
        decay: share of the old value kept in an update, 0 < decay < 1.

    Attributes:
        network: the average.
    """

    def __init__(self, network: Network, decay: float) -> None:
        self._followed, self._decay, self._updates = network, decay, 0
        self.network = copy.deepcopy(network).requires_grad_(False)

    @torch.no_grad()
    def update(self) -> None:
        """Take in the network as it is now."""
        kept = min(self._decay, (1 + self._updates) / (10 + self._updates)) if self._updates else 0.0
        pairs = list(zip(_tensors(self.network), _tensors(self._followed), strict=True))
        moved = [pair for pair in pairs if pair[0].is_floating_point()]
        torch._foreach_lerp_([old for old, _ in moved], [new for _, new in moved], 1 - kept)
        for old, new in pairs:
            if not old.is_floating_point():  # batch norm's count of batches
                old.copy_(new)
        self._updates += 1

    def state_dict(self) -> dict[str, torch.Tensor]:
        """What a checkpoint has to keep: the average, and how many updates it has seen."""
        return {**self.network.state_dict(), _UPDATES: torch.tensor(self._updates)}

    def load_state_dict(self, state: Mapping[str, torch.Tensor]) -> None:
        """Go on with what `state_dict` gave."""
        self.network.load_state_dict(weights_of(state))
        self._updates = int(state[_UPDATES])


def weights_of(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The network's own part of a `WeightAverage.state_dict()`."""
    return {name: value for name, value in state.items() if name != _UPDATES}


def _tensors(network: nn.Module) -> list[torch.Tensor]:
    return [tensor.detach() for tensor in (*network.parameters(), *network.buffers())]
