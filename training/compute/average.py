"""A moving average of weights and batch-norm statistics: what is learned, without the noise of single steps.

Source: Polyak and Juditsky, "Acceleration of Stochastic Approximation by Averaging", 1992; of weights and statistics
together as in Tarvainen and Valpola, arXiv 1703.01780.
"""

from collections.abc import Mapping, Sequence
from typing import Generic, TypeVar, cast

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel

__all__ = ["WeightAverage", "weights_of"]

_UPDATES = "updates"
Network = TypeVar("Network", bound=nn.Module)


class WeightAverage(Generic[Network]):
    """The average of a network over its updates, for measuring and for teaching; it is never trained.

    The share of the old value grows with the updates to `decay`, as (1 + n) / (10 + n): a short run would otherwise be
    measured by its first random weights.

    Args:
        network: to follow, on its device and in its memory layout.
        decay: share of the old value kept in an update, 0 < decay < 1.
    """

    def __init__(self, network: Network, decay: float) -> None:
        self._network, self._decay = network, decay
        self._average = AveragedModel(network, multi_avg_fn=self._mix, use_buffers=True)

    @property
    def network(self) -> Network:
        """The average, of the network's own class."""
        return cast(Network, self._average.module)

    def update(self) -> None:
        """Take in the network as it is now."""
        self._average.update_parameters(self._network)

    def state_dict(self) -> dict[str, torch.Tensor]:
        """What a checkpoint has to keep: the average, and how many updates it has seen."""
        return {**self.network.state_dict(), _UPDATES: self._average.n_averaged}

    def load_state_dict(self, state: Mapping[str, torch.Tensor]) -> None:
        """Go on with what `state_dict` gave."""
        self.network.load_state_dict(weights_of(state))
        self._average.n_averaged.copy_(state[_UPDATES])

    @torch.no_grad()
    def _mix(self, olds: Sequence[torch.Tensor], news: Sequence[torch.Tensor], _: torch.Tensor | int) -> None:
        if not olds[0].is_floating_point():  # batch norm's count of batches
            torch._foreach_copy_(list(olds), list(news))
            return
        updates = int(self._average.n_averaged)  # its own copy, on the CPU: nobody waits for the device
        kept = min(self._decay, (1 + updates) / (10 + updates))
        torch._foreach_lerp_(list(olds), list(news), 1 - kept)


def weights_of(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The network's own part of a `WeightAverage.state_dict()`."""
    return {name: value for name, value in state.items() if name != _UPDATES}
