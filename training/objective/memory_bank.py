"""One remembered embedding for every training video.

Source: Wu et al., "Unsupervised Feature Learning via Non-Parametric Instance Discrimination", arXiv 1805.01978, as
used by PCL, arXiv 2010.15464.
"""

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from pclkd.pipeline.randomness import Purpose, uniform

__all__ = ["MemoryBank"]

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
