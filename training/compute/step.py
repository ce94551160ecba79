"""One training step: forward in the run's precision, backward, update."""

import math
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Generic, TypeVar

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from pclkd.pipeline.batch import ClipBatch
from pclkd.training.compute.optimizers import build_optimizer
from pclkd.training.compute.precision import Precision
from pclkd.training.compute.settings import OptimizerSettings

__all__ = ["TrainStep"]

Learned = TypeVar("Learned", bound=nn.Module)


class TrainStep(Generic[Learned]):
    """Takes the batches of one update, makes it, gives the objective's named losses.

    Args:
        objective: batch in, dict of named losses out; "loss" is minimised.
        student: whose parameters are trained, wrapped by DistributedDataParallel or not.
        settings: of the optimiser.
        precision: autocast and gradient scaling.
        global_batch: samples an update, on all processes and in all accumulated batches.
        skip_non_finite: leave an update out whose gradient is not finite, with the batch-norm statistics as they were;
            costs a copy of these each step, and in fp16 a wait for the device.

    Attributes:
        objective: as given.
        optimizer: over the student's parameters.
        precision: as given.
        global_batch: as given.
    """

    def __init__(
        self,
        objective: Learned,
        student: nn.Module,
        settings: OptimizerSettings,
        precision: Precision,
        global_batch: int,
        *,
        skip_non_finite: bool = False,
    ) -> None:
        self.objective, self._student, self._clip_norm = objective, student, settings.clip_norm
        self._skip_non_finite = skip_non_finite
        self._skipped: torch.Tensor | int = 0
        self.precision, self.global_batch = precision, global_batch
        self.optimizer = build_optimizer(student, settings, global_batch)

    @property
    def lr(self) -> float:
        """The learning rate now."""
        return float(self.optimizer.param_groups[0]["lr"])

    @property
    def skipped(self) -> int:
        """Updates left out so far; waits for the device."""
        return int(self._skipped)

    @skipped.setter
    def skipped(self, updates: int) -> None:
        self._skipped = updates

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
                    losses: dict[str, torch.Tensor] = self.objective(batch)
                scaler.scale(losses["loss"] / len(batches)).backward()  # type: ignore[no-untyped-call]
            if number == 0 and len(batches) > 1:
                self._own_gradients()
            said.append({name: value.detach() for name, value in losses.items()})
        norm: torch.Tensor | None = None
        if self._clip_norm > 0 or self._skip_non_finite:
            scaler.unscale_(self.optimizer)
            norm = nn.utils.clip_grad_norm_(self._student.parameters(), self._clip_norm or math.inf)
        if self._skip_non_finite and norm is not None:
            # The gradients are every rank's mean, so all ranks decide alike.
            self._update_unless(~norm.isfinite(), buffers)
        else:
            scaler.step(self.optimizer)
        scaler.update()
        return said[0] if len(said) == 1 else _mean(said)

    @torch.no_grad()
    def _update_unless(self, bad: torch.Tensor, buffers: Sequence[torch.Tensor]) -> None:
        """Update, or leave all as it was before the step; the device decides, and nobody waits for it where it can."""
        self._skipped = bad.to(torch.int64) + self._skipped
        scaler, optimizer = self.precision.scaler, self.optimizer
        if scaler.is_enabled() or not getattr(optimizer, "_step_supports_amp_scaling", False):
            if not bad.item():
                scaler.step(optimizer)
        else:
            optimizer.found_inf = bad.float()  # type: ignore[attr-defined]
            optimizer.step()
            del optimizer.found_inf  # type: ignore[attr-defined]
        for buffer, before in zip(self._student.buffers(), buffers, strict=True):
            buffer.copy_(torch.where(bad, before, buffer))

    @torch.no_grad()
    def _own_gradients(self) -> None:
        """Take the gradients of the first batch out of the memory of a CUDA graph, which its next run writes over."""
        for weight in self._student.parameters():
            if weight.grad is not None:
                weight.grad = weight.grad.clone()

    def _apart(self) -> AbstractContextManager[None]:
        return self._student.no_sync() if isinstance(self._student, DistributedDataParallel) else nullcontext()


def _mean(said: Sequence[dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    """The mean of each figure over the batches that have it."""
    names = list(dict.fromkeys(name for losses in said for name in losses))
    return {name: torch.stack([losses[name] for losses in said if name in losses]).mean() for name in names}
