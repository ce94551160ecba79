"""Which transformation was done to the clips? The pretext task's own loss, and its distillation.

Sources: PCL, arXiv 2010.15464; Camarena et al., "Boosting Self-supervised Video-based Human Action Recognition Through
Knowledge Distillation".
"""

import torch
import torch.nn.functional as F

from pclkd.training.objective.distillation import imitate
from pclkd.training.objective.terms import Seen, Term

__all__ = ["KdPretextTerm", "PretextTerm"]


class PretextTerm(Term):
    """Cross-entropy of the pretext classes, nats."""

    def __init__(self, weight: float) -> None:
        super().__init__("pretext", weight)

    def forward(self, seen: Seen) -> torch.Tensor:
        """Mean over the batch."""
        return F.cross_entropy(seen.student.pretext_logits, seen.batch.pretext_label)


class KdPretextTerm(Term):
    """T^2 KL(teacher || student) over the pretext classes, nats.

    Args:
        weight: of the term.
        temperature: T.
        averaged: with several teachers: one KL to the mean of their softened distributions, or else the mean of the
            KLs to each.
    """

    asks_teachers = True

    def __init__(self, weight: float, temperature: float, *, averaged: bool) -> None:
        super().__init__("kd_pretext", weight)
        self.temperature = temperature
        self.averaged = averaged

    def forward(self, seen: Seen) -> torch.Tensor:
        """Mean over the batch."""
        return imitate(
            seen.student.pretext_logits, [t.pretext_logits for t in seen.teachers], self.temperature, self.averaged
        )
