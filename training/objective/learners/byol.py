"""BYOL: each clip predicts the other one's projection by a slowly following network (`pcl.key_momentum`).

Source: Grill et al., "Bootstrap Your Own Latent", arXiv 2006.07733.
"""

import torch
from lightly.loss import NegativeCosineSimilarity

from pclkd.training.objective.terms import Seen, Term

__all__ = ["LearnerTerm"]


class LearnerTerm(Term):
    """Negative cosine, from -1 where all is predicted to 1; the published squared distance is 2 + 2 of it."""

    name = "byol"
    title = "BYOL: clips 1 and 3 predict each other's slow projection"
    unit = "negative cosine"
    reads = frozenset({"first", "third", "predicted"})
    asks_keys = True

    def __init__(self, weight: float) -> None:
        super().__init__(weight)
        self.loss = NegativeCosineSimilarity()

    def forward(self, seen: Seen) -> torch.Tensor:
        """Mean over the batch and the two directions."""
        assert seen.keys is not None
        first, third = seen.student.predicted
        forth: torch.Tensor = self.loss(first, seen.keys.third)
        back: torch.Tensor = self.loss(third, seen.keys.first)
        return (forth + back) / 2
