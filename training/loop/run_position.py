"""Where a run stands, with the sums of its epoch's figures."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch

from pclkd.training.compute.collective import gather_rows

__all__ = ["RunPosition"]


@dataclass
class RunPosition:
    """A place between two steps.

    Attributes:
        epoch: the epoch under way, or the next one.
        epoch_step: steps of it that are done.
        step: steps done in all.
        sums: by figure, its sum over those steps of the epoch whose figures are read, and how many of them had it.
    """

    epoch: int = 0
    epoch_step: int = 0
    step: int = 0
    sums: dict[str, list[float]] = field(default_factory=dict)

    def add(self, figures: Mapping[str, float]) -> None:
        """Sum up the figures of a step, those that are finite."""
        for name, value in figures.items():
            total = self.sums.setdefault(name, [0.0, 0.0])  # every rank holds the same names
            if math.isfinite(value):
                total[0] += value
                total[1] += 1

    def means(self, device: torch.device) -> dict[str, float]:
        """The mean of each figure over the epoch and all ranks, so that every rank's schedule takes the same decision.

        Args:
            device: of the process group's tensors. Every rank must call.
        """
        sums = gather_rows(torch.tensor([list(self.sums.values())], dtype=torch.float64, device=device)).sum(0)
        return {name: total / steps for name, (total, steps) in zip(self.sums, sums.tolist(), strict=True) if steps}
