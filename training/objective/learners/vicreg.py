"""VICReg: the clips' projections agree, every dimension varies, no two dimensions say the same.

Source: Bardes et al., "VICReg: Variance-Invariance-Covariance Regularization", arXiv 2105.04906.
"""

import torch
from lightly.loss import VICRegLoss

from pclkd.training.objective.terms import Seen, Term

__all__ = ["LearnerTerm"]


class LearnerTerm(Term):
    """25 times invariance and variance, once covariance, as published."""

    name = "vicreg"
    title = "VICReg: clips 1 and 3"
    unit = "weighted sum"
    reads = frozenset({"first", "third", "projected"})

    def __init__(self, weight: float) -> None:
        super().__init__(weight)
        self.loss = VICRegLoss(gather_distributed=True)

    def forward(self, seen: Seen) -> torch.Tensor:
        """Over the batches of all processes."""
        found: torch.Tensor = self.loss(*seen.student.projected)
        return found
