"""Contrast within the batch of all processes; nothing is remembered.

Source: Chen et al., "A Simple Framework for Contrastive Learning of Visual Representations", arXiv 2002.05709 (between
the two views, as in CLIP: no view is its own video's negative).
"""

import torch

from pclkd.pipeline.batch import ClipBatch
from pclkd.training.compute.collective import gather_rows_with_gradient
from pclkd.training.models.pcl_model import PclOutput
from pclkd.training.objective.source import ContrastSource
from pclkd.training.objective.terms import Logits

__all__ = ["InBatchContrast"]


class InBatchContrast(ContrastSource):
    """Each clip is scored against the other clips of all N samples on all ranks.

    Args:
        temperature: of the softmax.
    """

    def __init__(self, *, temperature: float) -> None:
        super().__init__()
        self.temperature = temperature

    def compare(self, said: PclOutput, keys: PclOutput, batch: ClipBatch, drawn: torch.Tensor | None) -> Logits:  # noqa: ARG002
        """As in ContrastSource: [B, N] each; the gradient flows through both sides, across ranks too."""
        everyones_first, first_place = gather_rows_with_gradient(said.first)
        everyones_third, _ = gather_rows_with_gradient(said.third)
        own = first_place + torch.arange(len(said.first), device=said.first.device)
        return (
            _own_first(said.first @ everyones_third.T, own) / self.temperature,
            _own_first(said.third @ everyones_first.T, own) / self.temperature,
        )

    def state(self) -> dict[str, torch.Tensor]:
        """Nothing."""
        return {}


def _own_first(scores: torch.Tensor, own: torch.Tensor) -> torch.Tensor:
    """[B, N] with each row's own column swapped to the front."""
    columns = torch.arange(scores.shape[1], device=scores.device).expand(len(scores), -1)
    columns = torch.where(columns == own[:, None], 0, columns)
    columns = torch.cat((own[:, None], columns[:, 1:]), dim=1)
    return scores.gather(1, columns)
