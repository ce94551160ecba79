"""The heads of learners beside PCL: a projector whose output is not normalised, and a predictor where there is one.

Depth and batch norms are the published ones; widths follow the backbone and the length of the embedding, which are
small here.
"""

from dataclasses import dataclass
from itertools import pairwise

from torch import nn

__all__ = ["LEARNER_HEADS", "LearnerHeads"]


@dataclass(frozen=True)
class LearnerHeads:
    """What a learner puts on the backbone.

    Attributes:
        layers: of the projector.
        norm_last: whether its last layer ends in a batch norm, which has no weights.
        predicts: whether a predictor of two layers follows.
    """

    layers: int
    norm_last: bool = False
    predicts: bool = False

    def projector(self, features: int, dim: int) -> nn.Sequential:
        """[N, features] -> [N, dim]; hidden layers are twice as wide as the features."""
        widths = [features, *[2 * features] * (self.layers - 1), dim]
        parts: list[nn.Module] = []
        for before, after in pairwise(widths[:-1]):
            parts += [nn.Linear(before, after, bias=False), nn.BatchNorm1d(after), nn.ReLU(inplace=True)]
        parts.append(nn.Linear(widths[-2], dim, bias=not self.norm_last))
        return nn.Sequential(*parts, *([nn.BatchNorm1d(dim, affine=False)] if self.norm_last else []))

    def predictor(self, dim: int) -> nn.Sequential | None:
        """[N, dim] -> [N, dim] by way of a quarter of it, or None."""
        if not self.predicts:
            return None
        hidden = max(16, dim // 4)
        return nn.Sequential(
            nn.Linear(dim, hidden, bias=False), nn.BatchNorm1d(hidden), nn.ReLU(inplace=True), nn.Linear(hidden, dim)
        )


LEARNER_HEADS: dict[str, LearnerHeads] = {
    "simsiam": LearnerHeads(layers=3, norm_last=True, predicts=True),
    "byol": LearnerHeads(layers=2, predicts=True),
    "vicreg": LearnerHeads(layers=3),
    "barlow_twins": LearnerHeads(layers=3),
}
"""By learner; those that are not here have PCL's projector."""
