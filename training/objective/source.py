"""What a network's embeddings are compared with: a memory bank, a queue, or the batch itself.

Each source gives logits whose column 0 is the clip's own partner. Two networks with sources of the same kind, asked
about the same batches, have the same videos in the same columns: that is what makes their distributions comparable,
whatever the architectures.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping

import torch
from torch import nn

from pclkd.pipeline.batch import ClipBatch
from pclkd.sharding.common.errors import InputError
from pclkd.training.compute.distributed import gather_rows, gather_rows_with_gradient
from pclkd.training.models.pcl_model import PclOutput

__all__ = ["ContrastSource", "InBatchContrast", "Logits", "load_tensors", "without"]

Logits = tuple[torch.Tensor, torch.Tensor]
"""[B, 1 + N] of the first clip and [B, 1 + N] of the third clip, temperature included; column 0 is right."""


class ContrastSource(nn.Module, ABC):
    """One network's source of positives and negatives.

    Attributes:
        random_for: samples until what it started with at random is gone; 0 where nothing of it is random, or it has
            been set since.
    """

    random_for: int = 0

    def draw(self, batch: ClipBatch) -> torch.Tensor | None:
        """What is drawn for a batch, once for all networks of a step: the same for every source of this kind."""

    @abstractmethod
    def compare(self, said: PclOutput, keys: PclOutput, batch: ClipBatch, drawn: torch.Tensor | None) -> Logits:
        """Read, then remember the batch.

        Args:
            said: what the network says; its gradient flows.
            keys: what is remembered of the batch: said itself, or what the network's momentum encoder says.
            batch: the batch.
            drawn: what `draw` gave for the batch.
        """

    @abstractmethod
    def state(self) -> dict[str, torch.Tensor]:
        """What a checkpoint has to keep; not copies."""

    def load(self, state: Mapping[str, torch.Tensor]) -> None:
        """Take over what `state()` gave.

        Raises:
            InputError: something is missing or has another shape.
        """
        load_tensors(self.state(), state)
        self.random_for = 0


def load_tensors(own: Mapping[str, torch.Tensor], state: Mapping[str, torch.Tensor]) -> None:
    """Copy tensors of the same names and shapes into `own`.

    Raises:
        InputError: one is missing or has another shape; nothing is changed then.
    """
    for name, value in own.items():
        if name not in state:
            raise InputError(
                f"memory {name!r} is missing; the state holds {sorted(state)}",
                remedy="load the checkpoint of a run with the same pcl.contrast and the same terms",
            )
        if state[name].shape != value.shape:
            raise InputError(
                f"memory {name!r} is {list(state[name].shape)}, this run needs {list(value.shape)}",
                remedy="use the shards, split, embedding_dim and queue size that the checkpoint was trained with",
            )
    for name, value in own.items():
        value.copy_(state[name])


def without(same: torch.Tensor, similarities: torch.Tensor) -> torch.Tensor:
    """Similarities [B, N] with a clip's own video taken out of its negatives, where `same` [B, N] is true."""
    # Not -inf, whose relative entropy is not a number; over a temperature of 1 as of 0.001 half precision holds it.
    return similarities.masked_fill(same, -30.0)


class InBatchContrast(ContrastSource):
    """Each clip is scored against the other clips of all N samples on all ranks.

    A video that stands in for a damaged one may be in the batch twice: neither is the other's negative.

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
        samples = gather_rows(batch.sample_index)
        places = torch.arange(len(samples), device=samples.device)
        own = places[first_place : first_place + len(said.first)]
        again = (batch.sample_index[:, None] == samples) & (own[:, None] != places)
        return (
            _own_first(without(again, said.first @ everyones_third.T), own) / self.temperature,
            _own_first(without(again, said.third @ everyones_first.T), own) / self.temperature,
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
