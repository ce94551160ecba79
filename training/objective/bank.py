"""Contrast with two memory banks, an embedding of every training video in each.

Source: PCL, arXiv 2010.15464; Wu et al., arXiv 1805.01978.
"""

import torch

from pclkd.pipeline.batch import ClipBatch
from pclkd.training.compute.collective import gather_rows_together
from pclkd.training.models.pcl_model import PclOutput
from pclkd.training.objective.contrast import nce_indices, nce_logits
from pclkd.training.objective.memory_bank import MemoryBank
from pclkd.training.objective.source import ContrastSource
from pclkd.training.objective.terms import Logits

__all__ = ["BankContrast"]


class BankContrast(ContrastSource):
    """The bank of first clips and the bank of third clips. Each clip is scored against the OTHER clip's bank.

    The negatives are a pure function of (seed, epoch, sample), so two networks meet the same ones.

    Args:
        rows: training videos.
        dim: length of an embedding.
        negatives: K, rows that a clip is compared with beside its own.
        temperature: of the softmax.
        momentum: share of the old row in an update.
        seed: the run's seed.
        pair: number of this pair of banks in the run, so that no two banks start alike.
    """

    def __init__(
        self, rows: int, dim: int, *, negatives: int, temperature: float, momentum: float, seed: int, pair: int
    ) -> None:
        super().__init__()
        self.row_count, self.negatives, self.temperature, self.seed = rows, negatives, temperature, seed
        self.first = MemoryBank(rows, dim, momentum, seed, which=2 * pair)
        self.third = MemoryBank(rows, dim, momentum, seed, which=2 * pair + 1)

    def draw(self, batch: ClipBatch) -> torch.Tensor:
        """The rows that each clip is compared with, its own first: [B, 1 + K] int64."""
        return nce_indices(self.seed, batch.epoch, batch.sample_index, self.negatives, self.row_count)

    def compare(self, said: PclOutput, keys: PclOutput, batch: ClipBatch, drawn: torch.Tensor | None) -> Logits:
        """As in ContrastSource: [B, 1 + K] each; all ranks' keys are remembered, so every rank holds the same banks."""
        index = self.draw(batch) if drawn is None else drawn
        logits = (
            nce_logits(self.third, said.first, index, self.temperature),
            nce_logits(self.first, said.third, index, self.temperature),
        )
        everyones_rows, first, third = gather_rows_together(index[:, 0], keys.first.detach(), keys.third.detach())
        self.first.update(first, everyones_rows)
        self.third.update(third, everyones_rows)
        return logits

    def state(self) -> dict[str, torch.Tensor]:
        """The rows themselves, not copies: "first" and "third", [rows, dim] float32 each."""
        return {"first": self.first.rows, "third": self.third.rows}
