"""Contrast with two memory banks, an embedding of every training video in each.

Source: PCL, arXiv 2010.15464; Wu et al., arXiv 1805.01978.
"""

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from pclkd.pipeline.batch import ClipBatch
from pclkd.pipeline.randomness import Purpose, tensor_integers, uniform
from pclkd.sharding.common.errors import InputError
from pclkd.training.compute.distributed import gather_rows_together
from pclkd.training.models.pcl_model import PclOutput
from pclkd.training.objective.source import ContrastSource, Logits

__all__ = ["BankContrast", "MemoryBank", "nce_indices", "nce_logits"]


_ROWS_AT_ONCE = 65536


class MemoryBank(nn.Module):
    """[rows, dim] float32 unit vectors, moved towards the newest embedding of their video.

    A bank takes 4 * rows * dim bytes on the device (0.5 GB for a million videos at 128 dimensions), and reading it
    4 * B * (1 + K) * dim bytes more (8.4 MB for 16 samples and 1024 negatives).

    Args:
        rows: training videos.
        dim: length of an embedding.
        momentum: share of the old row in an update, 0 <= momentum < 1.
        seed: the run's seed.
        which: number of this bank among those of the run, so that no two start alike.
    """

    rows: torch.Tensor

    def __init__(self, rows: int, dim: int, momentum: float = 0.5, seed: int = 0, which: int = 0) -> None:
        super().__init__()
        self.momentum = momentum
        self.register_buffer("rows", _initial_rows(rows, dim, seed, which))

    def similarity(self, embeddings: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
        """Dot products of each sample's embedding with the rows chosen for it.

        The gradient goes to the embeddings alone. The rows are copied, so the bank may be updated before the
        backward pass.

        Args:
            embeddings: [B, D] float32.
            index: [B, 1 + K] int64.

        Returns:
            [B, 1 + K] float32.
        """
        # b = sample, k = row chosen for it, d = dimension. Whole rows are copied several times as fast by `embedding`
        # as by indexing, and a row vector times a matrix is the faster way round.
        chosen = F.embedding(index, self.rows)
        return torch.bmm(embeddings[:, None], chosen.transpose(1, 2))[:, 0]  # b1d, bdk -> b1k

    @torch.no_grad()
    def update(self, embeddings: torch.Tensor, index: torch.Tensor) -> None:
        """Row <- L2(momentum * row + (1 - momentum) * embedding).

        A video that occurs more than once counts once, with its last embedding, on any device. An embedding that is
        not finite leaves its row as it was.

        Args:
            embeddings: [B, D], L2-normalised.
            index: [B] int64, the row of each embedding.
        """
        # Writing different values to one row leaves the winner to chance on a GPU. Each duplicate therefore writes
        # what the last one writes. Counting would be shorter but needs the host to wait for the device.
        position = torch.arange(index.shape[0], device=index.device)
        last = torch.where(index[:, None] == index[None, :], position, -1).amax(dim=1)
        old = self.rows[index]
        moved = F.normalize(self.momentum * old + (1 - self.momentum) * embeddings[last].float(), dim=1)
        self.rows[index] = torch.where(moved.isfinite().all(dim=1, keepdim=True), moved, old)


def _initial_rows(rows: int, dim: int, seed: int, which: int) -> torch.Tensor:
    """[rows, dim] float32 random unit vectors: a pure function of its arguments, so equal on every rank.

    The bank's number stands in the epoch's place of the generator's counter.
    """
    bank = np.empty((rows, dim), dtype=np.float32)
    for start in range(0, rows, _ROWS_AT_ONCE):
        ids = np.arange(start, min(start + _ROWS_AT_ONCE, rows))
        centred = uniform(seed, which, ids, Purpose.INITIAL_BANK, dim) - 0.5
        bank[start : start + len(ids)] = centred / np.linalg.norm(centred, axis=1, keepdims=True)
    return torch.from_numpy(bank)


def nce_indices(seed: int, epoch: int, sample_index: torch.Tensor, negatives: int, rows: int) -> torch.Tensor:
    """Which rows of a bank each sample is compared with: its own, then K others drawn with replacement.

    A pure function of its arguments: how samples are spread over processes changes nothing. The negatives are uniform
    over the OTHER rows; the published code draws from all rows, so there a sample may be its own negative.

    Args:
        seed: the run's seed.
        epoch: the epoch.
        sample_index: [B] int64, the samples' own rows, on any device.
        negatives: K.
        rows: rows of the bank.

    Returns:
        [B, 1 + K] int64, on the device of `sample_index`.

    Raises:
        InputError: there is no other row to draw.
    """
    if rows < 2:
        raise InputError(
            f"contrastive training on {rows} video(s): there is no other video to compare with",
            remedy="train on at least 2 videos",
        )
    own = sample_index.reshape(-1, 1)
    others = tensor_integers(seed, epoch, sample_index, Purpose.NEGATIVES, negatives, rows - 1)
    # range(rows - 1) without a hole becomes range(rows) without the own row.
    others = others + (others >= own)
    return torch.cat((own, others), dim=1)


def nce_logits(bank: MemoryBank, embeddings: torch.Tensor, index: torch.Tensor, temperature: float) -> torch.Tensor:
    """Similarities over temperature.

    Args:
        bank: of the OTHER clip: the first clip is scored against the third clip's bank and the other way round.
        embeddings: [B, D] float32.
        index: [B, 1 + K] from `nce_indices`.
        temperature: 0.07 in PCL.

    Returns:
        [B, 1 + K] float32; column 0 is the positive.
    """
    return bank.similarity(embeddings, index) / temperature


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
        pair: number of the network in the run, 0 the student, then the teachers, so that no two banks start alike.
    """

    def __init__(
        self, rows: int, dim: int, *, negatives: int, temperature: float, momentum: float, seed: int, pair: int
    ) -> None:
        super().__init__()
        self.row_count, self.negatives, self.temperature, self.seed = rows, negatives, temperature, seed
        self.pair = pair
        # Each update leaves the share `momentum` of a row; until a twentieth is left it is the random one that speaks.
        self.random_for = rows * (math.ceil(math.log(0.05) / math.log(momentum)) if momentum else 1)
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
