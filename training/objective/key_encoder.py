"""A slow copy of the student that makes the keys of a queue.

Source: He et al., "Momentum Contrast", arXiv 1911.05722.
"""

import copy
from collections.abc import Mapping

import torch
from torch import nn

from pclkd.training.models.pcl_model import PclModel, PclOutput
from pclkd.training.objective.source import load_tensors

__all__ = ["KeyEncoder"]


class KeyEncoder(nn.Module):
    """Parameters are a running mean of the student's; batch-norm statistics are its own, from its own clips.

    Args:
        student: the network it follows.
        momentum: share of the old value in a step, 0 <= momentum < 1.
    """

    def __init__(self, student: PclModel, momentum: float) -> None:
        super().__init__()
        self.momentum = momentum
        self.model = copy.deepcopy(student).requires_grad_(False)

    @torch.no_grad()
    def forward(self, student: PclModel, clips: torch.Tensor) -> PclOutput:
        """Follow the student by one step, then say what the keys of these clips are."""
        # All parameters in one operator: on a GPU that is one launch instead of one each.
        torch._foreach_lerp_(list(self.model.parameters()), list(student.parameters()), 1 - self.momentum)
        said: PclOutput = self.model(clips)
        return said

    def state(self) -> dict[str, torch.Tensor]:
        """All its numbers, not copies."""
        return dict(self.model.state_dict())

    def load(self, state: Mapping[str, torch.Tensor]) -> None:
        """Take over what `state()` gave.

        Raises:
            InputError: something is missing or has another shape.
        """
        load_tensors(self.state(), state)
