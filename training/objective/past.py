"""The student of the epoch before, as its own teacher.

Source: Kim et al., "Self-Knowledge Distillation with Progressive Refinement of Targets", arXiv 2006.12000, who imitate
its softened classes.
"""

import copy
from collections.abc import Mapping

import torch
from torch import nn

from pclkd.training.compute.distributed import first_process_has
from pclkd.training.objective.fit import inner_model
from pclkd.training.objective.source import load_tensors

__all__ = ["PastSelf"]


class PastSelf:
    """A student as it was when the epoch before ended.

    Args:
        student: to be followed, wrapped by DistributedDataParallel or not.

    Attributes:
        network: the copy, without maps to teachers' features.
    """

    def __init__(self, student: nn.Module) -> None:
        self._student = inner_model(student)
        self.network = copy.deepcopy(self._student)
        self.network.adapters, self.network.grid_adapters = nn.ModuleList(), nn.ModuleList()
        self._epoch = 0

    def teaches(self, epoch: int) -> bool:
        """Follow the student where an epoch begins; every rank must call before each step. False in the first epoch."""
        if epoch != self._epoch:
            now = self._student.state_dict()
            for name, value in self.network.state_dict().items():
                value.copy_(now[name])
            for statistics in self.network.buffers():  # of each rank's own clips, as yet
                first_process_has(statistics)
            self._epoch = epoch
        return epoch > 0

    def state(self) -> dict[str, torch.Tensor]:
        """What a checkpoint has to keep; not copies."""
        return {**self.network.state_dict(), "epoch": torch.tensor(self._epoch)}

    def load(self, state: Mapping[str, torch.Tensor]) -> None:
        """Take over what `state()` gave.

        Raises:
            InputError: something is missing or has another shape.
        """
        load_tensors(self.network.state_dict(), state)
        self._epoch = int(state["epoch"])
