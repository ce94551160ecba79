"""MoCo: tell a clip's partner, as a slowly following network sees it, from the latest keys of other clips.

Source: He et al., "Momentum Contrast for Unsupervised Visual Representation Learning", arXiv 1911.05722; both clips are
queries and keys, as in its later versions.
"""

from typing import Self

import torch
from lightly.loss import NTXentLoss

from pclkd.training.objective.terms import Given, Seen, Term

__all__ = ["LearnerTerm"]


class LearnerTerm(Term):
    """Cross-entropy of the partner among it and the queue (`pcl.queue_size`), at `pcl.nce_temperature`."""

    name = "moco"
    title = "MoCo: clips 1 and 3, keys in a queue"
    unit = "nats"
    reads = frozenset({"first", "third"})
    asks_keys = True

    def __init__(self, weight: float, queue: int, dim: int, temperature: float) -> None:
        super().__init__(weight)
        self.loss = NTXentLoss(temperature, memory_bank_size=(queue, dim), gather_distributed=True)

    @classmethod
    def build(cls, weight: float, given: Given) -> Self:
        """A queue of the settings' length, which starts with random directions of the run's seed."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(given.seed)
            return cls(weight, given.pcl.queue_size, given.pcl.embedding_dim, given.pcl.nce_temperature)

    def forward(self, seen: Seen) -> torch.Tensor:
        """Mean over the batch and the two directions."""
        assert seen.keys is not None
        # In one call: a second one would find the first one's keys, the clips' own among them, in the queue.
        queries = torch.cat([seen.student.first, seen.student.third])
        found: torch.Tensor = self.loss(queries, torch.cat([seen.keys.third, seen.keys.first]))
        return found
