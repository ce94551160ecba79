"""The contrastive term: find the own video among K others in a memory bank.

Source: PCL, arXiv 2010.15464, section 3; the softmax form of noise-contrastive estimation.
"""

import torch
import torch.nn.functional as F

from pclkd.pipeline.randomness import Purpose, tensor_integers
from pclkd.sharding.common.errors import InputError
from pclkd.training.objective.memory_bank import MemoryBank

__all__ = ["nce_indices", "nce_logits", "nce_loss"]


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


def nce_loss(logits: torch.Tensor) -> torch.Tensor:
    """Softmax cross-entropy, in nats, of logits [B, 1 + K] whose column 0 is right; mean over the batch."""
    return F.cross_entropy(logits, torch.zeros(logits.shape[0], dtype=torch.int64, device=logits.device))
