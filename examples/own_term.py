"""A term of the loss of your own: the embeddings of the first and third clip shall agree, their dimensions shall not.

    train-kd --import examples/own_term.py pretrain --data SHARDS --out runs/own --set pcl.own_terms.redundancy=0.1

Source: Zbontar et al., "Barlow Twins: Self-Supervised Learning via Redundancy Reduction", arXiv 2103.03230.
"""

import torch

from pclkd.training import Seen, Term, register_term

__all__ = ["Redundancy"]

_OFF_DIAGONAL = 0.005  # weight of what lies off the diagonal, as published


class Redundancy(Term):
    """Squared distance between the cross-correlation of the two embeddings and the identity, mean over its rows."""

    name = "redundancy"
    title = "Barlow Twins: cross-correlation of clips 1 and 3"
    unit = "squared correlation"
    reads = frozenset({"first", "third"})

    def forward(self, seen: Seen) -> torch.Tensor:
        """Over the samples of this process' batch."""
        first, third = (
            (said - said.mean(0)) / (said.std(0, correction=0) + 1e-6)
            for said in (seen.student.first, seen.student.third)
        )
        correlation = first.T @ third / len(first)  # [D, D]
        same = (correlation.diagonal() - 1).square().sum()
        others = correlation.square().sum() - correlation.diagonal().square().sum()
        return (same + _OFF_DIAGONAL * others) / len(correlation)


register_term(Redundancy)
