"""The interface of a term of the loss, which looks at what the networks said and gives one number; and PCL's two terms.

Source: PCL, arXiv 2010.15464, section 3: which transformation was done to the clips, and, in the softmax form of
noise-contrastive estimation, which video is the clip's own. What distillation adds is in `distillation`.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

from pclkd.pipeline.batch import ClipBatch
from pclkd.training.models.pcl_model import PclOutput

__all__ = ["ContrastTerm", "Logits", "PretextTerm", "Seen", "Term", "nce_loss"]

Logits = tuple[torch.Tensor, torch.Tensor]
"""[B, 1 + N] of the first clip and [B, 1 + N] of the third clip, temperature included; column 0 is right."""


@dataclass
class Seen:
    """What a term may look at in one step.

    Attributes:
        batch: the batch.
        student: what the student says about it.
        teachers: what each teacher says, without gradients; empty where no term of this step asks them.
        contrast: the student's contrastive logits; None where no term needs them.
        drawn: what was drawn for the comparison, for all networks; None where nothing is.
    """

    batch: ClipBatch
    student: PclOutput
    teachers: tuple[PclOutput, ...] = ()
    contrast: Logits | None = None
    drawn: torch.Tensor | None = None


class Term(nn.Module, ABC):
    """One term. `term(seen)` is a float32 scalar in nats (or squared length), not weighted yet.

    Attributes:
        name: under which it is reported.
        weight: above 0; a term of weight 0 is not built.
        asks_teachers: whether it needs `seen.teachers`.
        asks_contrast: whether it needs `seen.contrast`.
    """

    asks_teachers = False
    asks_contrast = False

    def __init__(self, name: str, weight: float) -> None:
        super().__init__()
        self.name = name
        self.weight = weight

    @abstractmethod
    def forward(self, seen: Seen) -> torch.Tensor:
        """The term's value; whatever it remembers is read before it is brought up to date."""

    def memory(self) -> dict[str, dict[str, torch.Tensor]]:
        """What a checkpoint has to keep beside weights, by owner, then by name; not copies."""
        return {}

    def load_memory(self, state: Mapping[str, Mapping[str, torch.Tensor]]) -> None:
        """Go on with what `memory()` gave.

        Raises:
            InputError: something of it is missing or has another shape.
        """


class PretextTerm(Term):
    """Cross-entropy of the pretext classes, nats."""

    def __init__(self, weight: float) -> None:
        super().__init__("pretext", weight)

    def forward(self, seen: Seen) -> torch.Tensor:
        """Mean over the batch."""
        return F.cross_entropy(seen.student.pretext_logits, seen.batch.pretext_label)


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


def nce_loss(logits: torch.Tensor) -> torch.Tensor:
    """Softmax cross-entropy, in nats, of logits [B, 1 + K] whose column 0 is right; mean over the batch."""
    return F.cross_entropy(logits, torch.zeros(logits.shape[0], dtype=torch.int64, device=logits.device))
