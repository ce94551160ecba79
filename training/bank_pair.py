"""The two memory banks of one network: first clips and third clips.

Source: PCL, arXiv 2010.15464.
"""

from collections.abc import Mapping

import torch
from torch import nn

from pclkd.sharding.errors import InputError
from pclkd.training.collective import gather_rows
from pclkd.training.contrast import nce_logits
from pclkd.training.memory_bank import MemoryBank
from pclkd.training.pcl_model import PclOutput

__all__ = ["BankPair"]


class BankPair(nn.Module):
    """The bank of first clips and the bank of third clips. Each clip is scored against the OTHER clip's bank.

    Args:
        rows: training videos.
        dim: length of an embedding.
        momentum: share of the old row in an update.
        seed: the run's seed.
        pair: number of this pair in the run, so that no two banks start alike.
    """

    def __init__(self, rows: int, dim: int, momentum: float, seed: int, pair: int) -> None:
        super().__init__()
        self.first = MemoryBank(rows, dim, momentum, seed, which=2 * pair)
        self.third = MemoryBank(rows, dim, momentum, seed, which=2 * pair + 1)

    def logits(self, said: PclOutput, index: torch.Tensor, temperature: float) -> tuple[torch.Tensor, torch.Tensor]:
        """Logits [B, 1 + K] of the first clip against third clips, and of the third clip against first clips."""
        return (
            nce_logits(self.third, said.first, index, temperature),
            nce_logits(self.first, said.third, index, temperature),
        )

    def update(self, said: PclOutput, everyones_rows: torch.Tensor) -> None:
        """Remember the embeddings of all processes, so that every rank holds the same banks.

        Args:
            said: of this process's B samples.
            everyones_rows: [ranks * B] int64, the gathered rows.
        """
        self.first.update(gather_rows(said.first.detach()), everyones_rows)
        self.third.update(gather_rows(said.third.detach()), everyones_rows)

    def state(self) -> dict[str, torch.Tensor]:
        """The rows themselves, not copies, as with `state_dict`: "first" and "third", [rows, dim] float32 each."""
        return {"first": self.first.rows, "third": self.third.rows}

    def load(self, state: Mapping[str, torch.Tensor]) -> None:
        """Take the rows of `state`.

        Raises:
            InputError: a bank is missing or has another shape.
        """
        for name, own in self.state().items():
            if name not in state:
                raise InputError(
                    f"memory bank {name!r} is missing; the state holds {sorted(state)}",
                    remedy="load the checkpoint of a run that trained with PCL",
                )
            if state[name].shape != own.shape:
                raise InputError(
                    f"memory bank {name!r} is {list(state[name].shape)}, this run needs {list(own.shape)}",
                    remedy="use the shards, split and embedding_dim that the checkpoint was trained with",
                )
        for name, own in self.state().items():
            own.copy_(state[name])
