"""SimSiam: each clip predicts the other one's projection, which gets no gradient.

Source: Chen and He, "Exploring Simple Siamese Representation Learning", arXiv 2011.10566.
"""

import torch
from lightly.loss import NegativeCosineSimilarity

from pclkd.training.objective.terms import Seen, Term

__all__ = ["LearnerTerm"]


class LearnerTerm(Term):
    """Negative cosine, from -1 where all is predicted to 1."""

    name = "simsiam"
    title = "SimSiam: clips 1 and 3 predict each other"
    unit = "negative cosine"
    reads = frozenset({"first", "third", "predicted"})

    def __init__(self, weight: float) -> None:
        super().__init__(weight)
        self.loss = NegativeCosineSimilarity()

    def forward(self, seen: Seen) -> torch.Tensor:
        """Mean over the batch and the two directions."""
        first, third = seen.student.predicted
        forth: torch.Tensor = self.loss(first, seen.student.third.detach())
        back: torch.Tensor = self.loss(third, seen.student.first.detach())
        return (forth + back) / 2
