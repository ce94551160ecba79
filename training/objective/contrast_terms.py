"""Find the own video among others: the contrastive loss, and its distillation.

Sources: PCL, arXiv 2010.15464; SEED (arXiv 2101.04731) for softened contrastive distributions as targets.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import nn

from pclkd.sharding.common.errors import InputError
from pclkd.training.objective.contrast import nce_loss
from pclkd.training.objective.distillation import imitate
from pclkd.training.objective.source import ContrastSource
from pclkd.training.objective.terms import Seen, Term

__all__ = ["ContrastTerm", "KdContrastTerm", "load_owner", "teacher_owner"]


def teacher_owner(number: int) -> str:
    """Under which name a checkpoint keeps the memory of teacher `number`."""
    return "teacher" if number == 0 else f"teacher{number + 1}"


class ContrastTerm(Term):
    """NCE_1 + NCE_3: softmax cross-entropy of the first clip and of the third clip, nats."""

    asks_contrast = True

    def __init__(self, weight: float) -> None:
        super().__init__("contrast", weight)

    def forward(self, seen: Seen) -> torch.Tensor:
        """Mean over the batch."""
        assert seen.contrast is not None
        first, third = seen.contrast
        return nce_loss(first) + nce_loss(third)


class KdContrastTerm(Term):
    """(KL_1 + KL_3) / 2, T^2 KL(teacher || student) of the contrastive distributions, nats.

    Each network compares with its OWN memory, at the SAME videos, so neither the architecture nor the length of an
    embedding has to agree.

    Args:
        weight: of the term.
        temperature: T, on top of the contrastive softmax's own.
        sources: one of each teacher, of the student's kind.
        averaged: as in KdPretextTerm.
    """

    asks_teachers = True
    asks_contrast = True

    def __init__(self, weight: float, temperature: float, sources: Sequence[ContrastSource], *, averaged: bool) -> None:
        super().__init__("kd_contrast", weight)
        self.temperature = temperature
        self.averaged = averaged
        self.sources = nn.ModuleList(sources)

    def forward(self, seen: Seen) -> torch.Tensor:
        """Mean over the batch and over the two clips."""
        assert seen.contrast is not None
        taught = []
        for source, said in zip(self.sources, seen.teachers, strict=True):
            assert isinstance(source, ContrastSource)
            taught.append(source.compare(said, said, seen.batch, seen.drawn))
        clips = [
            imitate(own, [logits[clip] for logits in taught], self.temperature, self.averaged)
            for clip, own in enumerate(seen.contrast)
        ]
        return 0.5 * (clips[0] + clips[1])

    def memory(self) -> dict[str, dict[str, torch.Tensor]]:
        """The teachers' memories, by teacher."""
        return {
            teacher_owner(number): source.state()
            for number, source in enumerate(self.sources)
            if isinstance(source, ContrastSource)
        }

    def load_memory(self, state: Mapping[str, Mapping[str, torch.Tensor]]) -> None:
        """As in Term."""
        for number, source in enumerate(self.sources):
            assert isinstance(source, ContrastSource)
            load_owner(source, state, teacher_owner(number))


def load_owner(source: ContrastSource, state: Mapping[str, Mapping[str, torch.Tensor]], owner: str) -> None:
    """Load one owner's part of a checkpoint's memories.

    Raises:
        InputError: the checkpoint has none of this owner, or it does not fit.
    """
    if owner not in state:
        raise InputError(
            f"the checkpoint has no memory banks of the {owner}; it has those of {sorted(state)}",
            remedy="resume with the command that the run was started with",
        )
    source.load(state[owner])
