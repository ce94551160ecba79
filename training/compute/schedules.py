"""How the learning rate moves: by epoch (plateau, cosine, step), and a warm-up by step at the start."""

import math
from typing import Any

import torch
from torch.optim.lr_scheduler import ReduceLROnPlateau

from pclkd.training.compute.settings import OptimizerSettings

__all__ = ["Schedule"]

_COLDEST = 0.01  # of the rate at the first step of a warm-up
_FALL = 0.1


class Schedule:
    """Sets the learning rate before each step: base * factor of the epoch * factor of the warm-up.

    Args:
        optimizer: whose rate is set.
        settings: which schedule.
        epochs: of the run.
        steps: an epoch's.
    """

    def __init__(self, optimizer: torch.optim.Optimizer, settings: OptimizerSettings, epochs: int, steps: int) -> None:
        self._optimizer, self._settings = optimizer, settings
        self._epochs, self._steps = epochs, steps
        self._base = [float(group["lr"]) for group in optimizer.param_groups]
        # torch's own judge of when a loss rests, on an optimiser that stands for the factor alone.
        self._factor = torch.optim.SGD([torch.zeros(1)], lr=1.0)
        self._plateau = ReduceLROnPlateau(self._factor, factor=_FALL, patience=settings.patience)

    def before_step(self, epoch: int, epoch_step: int) -> float:
        """Set the rate of the step that comes now and return it.

        Args:
            epoch: the epoch, from 0.
            epoch_step: steps of it that are done.
        """
        factor = self._epoch_factor(epoch) * self._warm_up(epoch * self._steps + epoch_step)
        for group, base in zip(self._optimizer.param_groups, self._base, strict=True):
            group["lr"] = base * factor
        return self._base[0] * factor

    def after_epoch(self, loss: float) -> None:
        """Note the epoch's mean training loss."""
        if self._settings.schedule == "plateau":
            self._plateau.step(loss)

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint has to keep."""
        state: dict[str, Any] = dict(self._plateau.state_dict())
        return {"plateau": state, "factor": self._factor.param_groups[0]["lr"]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on with what `state_dict` gave."""
        self._plateau.load_state_dict(state["plateau"])
        self._factor.param_groups[0]["lr"] = state["factor"]

    def _epoch_factor(self, epoch: int) -> float:
        settings = self._settings
        if settings.schedule == "plateau":
            return float(self._factor.param_groups[0]["lr"])
        if settings.schedule == "cosine":
            return 0.5 * (1 + math.cos(math.pi * min(epoch, self._epochs) / max(1, self._epochs)))
        return _FALL ** sum(epoch >= share * self._epochs for share in settings.milestones)

    def _warm_up(self, step: int) -> float:
        warm = self._settings.warmup_epochs * self._steps
        if step >= warm:
            return 1.0
        return _COLDEST + (1 - _COLDEST) * step / warm
