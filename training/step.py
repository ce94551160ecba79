"""One training step: forward in the run's precision, backward, update."""

import math
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from pclkd.pipeline.batch import ClipBatch
from pclkd.training.optimizers import OptimizerSettings, build_optimizer
from pclkd.training.precision import Precision

__all__ = ["TrainStep"]


class TrainStep:
    """Takes the batches of one update, makes it, gives the objective's named losses.

    Args:
        objective: batch in, dict of named losses out; "loss" is minimised.
        student: whose parameters are trained, wrapped by DistributedDataParallel or not.
        settings: of the optimiser.
        precision: autocast and gradient scaling.
        global_batch: samples an update, on all processes and in all accumulated batches.
        skip_non_finite: leave an update out whose gradient is not finite, with the batch-norm statistics as they were;
            costs a wait for the device each step.

    Attributes:
        skipped: updates left out so far.
        optimizer: over the student's parameters.
        precision: as given.
    """

    def __init__(
        self,
        objective: nn.Module,
        student: nn.Module,
        settings: OptimizerSettings,
        precision: Precision,
        global_batch: int,
        *,
        skip_non_finite: bool = False,
    ) -> None:
        self._objective, self._student, self._clip_norm = objective, student, settings.clip_norm
        self._skip_non_finite = skip_non_finite
        self.skipped = 0
        self.precision = precision
        self.optimizer = build_optimizer(student, settings, global_batch)

    @property
    def lr(self) -> float:
        """The learning rate now."""
        return float(self.optimizer.param_groups[0]["lr"])

    def __call__(self, *batches: ClipBatch) -> dict[str, torch.Tensor]:
        """Make one update from the mean gradient of the batches, all of one size.

        Returns:
            The losses before it, means over the batches, detached, on the device.
        """
        scaler = self.precision.scaler
        self.optimizer.zero_grad(set_to_none=True)
        buffers = [buffer.clone() for buffer in self._student.buffers()] if self._skip_non_finite else []
        said: list[dict[str, torch.Tensor]] = []
        for number, batch in enumerate(batches):
            # Gradients are exchanged once an update, with the last batch.
            with self._apart() if number + 1 < len(batches) else nullcontext():
                with self.precision.autocast():
                    losses: dict[str, torch.Tensor] = self._objective(batch)
                scaler.scale(losses["loss"] / len(batches)).backward()  # type: ignore[no-untyped-call]
            said.append({name: value.detach() for name, value in losses.items()})
        if self._clip_norm > 0 or self._skip_non_finite:
            scaler.unscale_(self.optimizer)
            norm = nn.utils.clip_grad_norm_(self._student.parameters(), self._clip_norm or math.inf)
        # The gradients are every rank's mean, so all ranks decide alike.
        if self._skip_non_finite and not bool(norm.isfinite()):
            self.skipped += 1
            with torch.no_grad():
                for buffer, before in zip(self._student.buffers(), buffers, strict=True):
                    buffer.copy_(before)
        else:
            scaler.step(self.optimizer)
        scaler.update()
        return said[0] if len(said) == 1 else _mean(said)

    def _apart(self) -> AbstractContextManager[None]:
        return self._student.no_sync() if isinstance(self._student, DistributedDataParallel) else nullcontext()


def _mean(said: Sequence[dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    """The mean of each figure over the batches that have it."""
    names = list(dict.fromkeys(name for losses in said for name in losses))
    return {name: torch.stack([losses[name] for losses in said if name in losses]).mean() for name in names}
