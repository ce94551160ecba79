"""Barlow Twins: each dimension of one clip's projection goes with the same dimension of the other's, and with no other.

Source: Zbontar et al., "Barlow Twins: Self-Supervised Learning via Redundancy Reduction", arXiv 2103.03230.
"""

import torch
from lightly.loss import BarlowTwinsLoss

from pclkd.training.objective.terms import Seen, Term

__all__ = ["LearnerTerm"]


class LearnerTerm(Term):
    """Squared distance between the cross-correlation and the identity, off the diagonal times 0.005; summed."""

    name = "barlow_twins"
    title = "Barlow Twins: cross-correlation of clips 1 and 3"
    unit = "squared correlation"
    reads = frozenset({"first", "third", "projected"})

    def __init__(self, weight: float) -> None:
        super().__init__(weight)
        self.loss = BarlowTwinsLoss(gather_distributed=True)

    def forward(self, seen: Seen) -> torch.Tensor:
        """Over the batches of all processes."""
        found: torch.Tensor = self.loss(*seen.student.projected)
        return found
