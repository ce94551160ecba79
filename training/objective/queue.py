"""Contrast with the latest embeddings of other videos, first in, first out.

Source: He et al., "Momentum Contrast for Unsupervised Visual Representation Learning", arXiv 1911.05722. A queue stays
small where a memory bank grows with the data set.
"""

import copy
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import nn

from pclkd.pipeline.batch import ClipBatch
from pclkd.pipeline.randomness import Purpose, uniform
from pclkd.training.compute.distributed import gather_rows_together
from pclkd.training.models.pcl_model import PclModel, PclOutput
from pclkd.training.objective.source import ContrastSource, Logits, load_tensors, without

__all__ = ["EmbeddingQueue", "KeyEncoder", "QueueContrast"]


class KeyEncoder(nn.Module):
    """Parameters are a running mean of the student's; batch-norm statistics are its own, from its own clips.

    Args:
        student: the network it follows.
        momentum: share of the old value in a step, 0 <= momentum < 1.
    """

    def __init__(self, student: PclModel, momentum: float) -> None:
        super().__init__()
        self.momentum = momentum
        self.model = copy.deepcopy(student).requires_grad_(False)

    @torch.no_grad()
    def forward(self, student: PclModel, clips: torch.Tensor) -> PclOutput:
        """Follow the student by one step, then say what the keys of these clips are."""
        # All parameters in one operator: on a GPU that is one launch instead of one each.
        torch._foreach_lerp_(list(self.model.parameters()), list(student.parameters()), 1 - self.momentum)
        said: PclOutput = self.model(clips)
        return said

    def state(self) -> dict[str, torch.Tensor]:
        """All its numbers, not copies."""
        return dict(self.model.state_dict())

    def load(self, state: Mapping[str, torch.Tensor]) -> None:
        """Take over what `state()` gave.

        Raises:
            InputError: something is missing or has another shape.
        """
        load_tensors(self.state(), state)


class EmbeddingQueue(torch.nn.Module):
    """[size, dim] float32 unit vectors; the newest take the place of the oldest.

    Args:
        size: vectors.
        dim: length of a vector.
        seed: the run's seed; the queue starts with random directions.
        which: number of this queue in the run, so that no two start alike.
    """

    rows: torch.Tensor
    owner: torch.Tensor
    place: torch.Tensor

    def __init__(self, size: int, dim: int, seed: int, which: int) -> None:
        super().__init__()
        start = torch.from_numpy(uniform(seed, which, torch.arange(size).numpy(), Purpose.INITIAL_BANK, dim)) - 0.5
        self.register_buffer("rows", F.normalize(start, dim=1).float())
        self.register_buffer("owner", torch.full((size,), -1))  # the video that each row is of
        self.register_buffer("place", torch.zeros((), dtype=torch.int64))

    @torch.no_grad()
    def push(self, embeddings: torch.Tensor, samples: torch.Tensor) -> None:
        """Take in embeddings [N, dim] of the videos [N]; where N passes the size the last ones stay.

        One that is not finite leaves in its place what stood there.
        """
        size = len(self.rows)
        embeddings, samples = embeddings[-size:].float(), samples[-size:]
        where = (self.place + torch.arange(len(embeddings), device=self.rows.device)) % size
        self.rows[where] = torch.where(embeddings.isfinite().all(dim=1, keepdim=True), embeddings, self.rows[where])
        self.owner[where] = samples
        self.place.add_(len(embeddings)).remainder_(size)

    def state(self) -> dict[str, torch.Tensor]:
        """All that it holds, not copies."""
        return {"rows": self.rows, "owner": self.owner, "place": self.place}


class QueueContrast(ContrastSource):
    """A queue of first clips and a queue of third clips; each clip is scored against the OTHER clip's keys.

    A clip's own video may stand in the queue from an earlier step: it is left out of the negatives.

    Args:
        size: keys in each queue.
        dim: length of an embedding.
        temperature: of the softmax.
        seed: the run's seed.
        pair: number of this pair in the run.
    """

    def __init__(self, size: int, dim: int, *, temperature: float, seed: int, pair: int) -> None:
        super().__init__()
        self.temperature, self.random_for = temperature, size
        self.first = EmbeddingQueue(size, dim, seed, which=2 * pair)
        self.third = EmbeddingQueue(size, dim, seed, which=2 * pair + 1)

    def compare(self, said: PclOutput, keys: PclOutput, batch: ClipBatch, drawn: torch.Tensor | None) -> Logits:  # noqa: ARG002
        """As in ContrastSource: [B, 1 + size] each; all ranks' keys are remembered in the order of the ranks."""
        logits = (
            self._score(said.first, keys.third, self.third, batch.sample_index),
            self._score(said.third, keys.first, self.first, batch.sample_index),
        )
        everyones, first, third = gather_rows_together(batch.sample_index, keys.first.detach(), keys.third.detach())
        self.first.push(first, everyones)
        self.third.push(third, everyones)
        return logits

    def state(self) -> dict[str, torch.Tensor]:
        """Rows, owners and places of both queues."""
        return {
            f"{clip}_{name}": value
            for clip, queue in (("first", self.first), ("third", self.third))
            for name, value in queue.state().items()
        }

    def _score(
        self, query: torch.Tensor, partner: torch.Tensor, queue: EmbeddingQueue, samples: torch.Tensor
    ) -> torch.Tensor:
        own = torch.einsum("bd,bd->b", query, partner.detach())[:, None]
        # A copy where there is a backward pass: the queue is written to before it needs these values.
        others = query @ (queue.rows.clone() if query.requires_grad else queue.rows).T
        others = without(samples[:, None] == queue.owner, others)
        return torch.cat((own, others), dim=1) / self.temperature
