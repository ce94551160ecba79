"""One training step: forward in the run's precision, backward, update."""

import torch
from torch import nn

from pclkd.pipeline.batch import ClipBatch
from pclkd.training.precision import Precision
from pclkd.training.settings import OptimizerSettings

__all__ = ["TrainStep"]


class TrainStep:
    """Takes a batch, makes one SGD step, gives the objective's named losses.

    Args:
        objective: batch in, dict of named losses out; "loss" is minimised.
        student: whose parameters are trained, wrapped by DistributedDataParallel or not.
        settings: of SGD.
        precision: autocast and gradient scaling.

    Attributes:
        optimizer: SGD over the student's parameters.
        precision: as given.
    """

    def __init__(
        self, objective: nn.Module, student: nn.Module, settings: OptimizerSettings, precision: Precision
    ) -> None:
        self._objective = objective
        self.precision = precision
        self.optimizer = torch.optim.SGD(
            student.parameters(), lr=settings.lr, momentum=settings.momentum, weight_decay=settings.weight_decay
        )

    @property
    def lr(self) -> float:
        """The learning rate now."""
        return float(self.optimizer.param_groups[0]["lr"])

    def __call__(self, batch: ClipBatch) -> dict[str, torch.Tensor]:
        """Make one step; the losses are those before it, detached, on the device."""
        with self.precision.autocast():
            losses: dict[str, torch.Tensor] = self._objective(batch)
        scaler = self.precision.scaler
        self.optimizer.zero_grad(set_to_none=True)
        scaler.scale(losses["loss"]).backward()  # type: ignore[no-untyped-call]
        scaler.step(self.optimizer)
        scaler.update()
        return {name: value.detach() for name, value in losses.items()}
