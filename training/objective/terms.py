"""The interface of a term of the loss, which looks at what the networks said and gives one number; and PCL's two terms.

A term declares what it is called, what it reads and what it asks for; logs, charts and the objective go by that.

Source: PCL, arXiv 2010.15464, section 3: which transformation was done to the clips, and, in the softmax form of
noise-contrastive estimation, which video is the clip's own. What distillation adds is in `distillation`.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Self

import torch
import torch.nn.functional as F
from torch import nn

from pclkd.pipeline.batch import ClipBatch
from pclkd.training.models.pcl_model import PclModel, PclOutput
from pclkd.training.objective.bank import BankContrast
from pclkd.training.objective.hearing import Hearing
from pclkd.training.objective.queue import QueueContrast
from pclkd.training.objective.settings import KdSettings, PclSettings
from pclkd.training.objective.source import ContrastSource, InBatchContrast, Logits, load_tensors

__all__ = ["PCL_TERMS", "Asked", "ContrastTerm", "Given", "PretextTerm", "Seen", "Term", "nce_loss"]


@dataclass(frozen=True)
class Asked:
    """The teachers that a term can ask.

    Attributes:
        numbers: their places among those of the run.
        weights: `kd.teacher_weights` of each.
    """

    numbers: tuple[int, ...]
    weights: tuple[float, ...]


@dataclass(frozen=True)
class Given:
    """What a term may be built from.

    Attributes:
        pcl: settings of PCL.
        kd: settings of the distillation.
        rows: training videos.
        seed: the run's seed.
        teachers: to imitate; none in pretraining.
        banks: for each teacher what its own run compared with, or None.
    """

    pcl: PclSettings
    kd: KdSettings
    rows: int
    seed: int
    teachers: Sequence[PclModel] = ()
    banks: Sequence[Mapping[str, torch.Tensor] | None] = ()

    def asked(self, able: Callable[[PclModel], bool] = lambda teacher: True) -> Asked:  # noqa: ARG005
        """The teachers that are able to say what a term asks for; all of them by default."""
        numbers = tuple(number for number, teacher in enumerate(self.teachers) if able(teacher))
        weights = self.kd.teacher_weights or (1.0,) * len(self.teachers)
        return Asked(numbers, tuple(weights[number] for number in numbers))

    def source(self, dim: int, pair: int, temperature: float | None = None) -> ContrastSource:
        """What one network compares with.

        Args:
            dim: length of its embeddings.
            pair: its number: 0 is the student, then the teachers.
            temperature: of its softmax; by default pcl.nce_temperature.
        """
        pcl = self.pcl
        temperature = temperature or pcl.nce_temperature
        if pcl.contrast == "bank":
            return BankContrast(
                self.rows,
                dim,
                negatives=pcl.negatives,
                temperature=temperature,
                momentum=pcl.bank_momentum,
                seed=self.seed,
                pair=pair,
            )
        if pcl.contrast == "queue":
            return QueueContrast(pcl.queue_size, dim, temperature=temperature, seed=self.seed, pair=pair)
        return InBatchContrast(temperature=temperature)


@dataclass
class Seen:
    """What a term may look at in one step.

    Attributes:
        batch: the batch.
        student: what the student says about it.
        teachers: what each teacher says, made in inference mode: clone what a product with the student's takes. Empty
            where no term of this step asks them.
        contrast: the student's contrastive logits; None where no term needs them.
        drawn: what was drawn for the comparison, for all networks; None where nothing is.
        keys: what a network says that slowly follows the student; None where nothing asks it.
    """

    batch: ClipBatch
    student: PclOutput
    teachers: tuple[PclOutput, ...] = ()
    contrast: Logits | None = None
    drawn: torch.Tensor | None = None
    keys: PclOutput | None = None


class Term(nn.Module, ABC):
    """One term. `term(seen)` is a float32 scalar, not weighted yet. It has no weights of its own, but may have buffers.

    Attributes:
        name: under which it is reported.
        title: what it is, in words, for charts.
        unit: of its value, such as "nats".
        reads: fields of the student's PclOutput that its gradient surely reaches; if "adapted" is one, the student has
            a learned map to each teacher's features. To the others the objective gives a gradient of 0, so that leaving
            one out costs time alone.
        asks_teachers: whether it needs `seen.teachers`; its weight then rises in the warm-up.
        asks_contrast: whether it needs `seen.contrast`.
        asks_keys: whether it needs `seen.keys`.
        weight: above 0; a term of weight 0 is not built.
        hearing: which teachers it imitates, where that depends on what they say; the objective takes a term out whose
            teachers all say nothing, logs its figures and keeps its state.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    unit: ClassVar[str]
    reads: ClassVar[frozenset[str]] = frozenset()
    asks_teachers: ClassVar[bool] = False
    asks_contrast: ClassVar[bool] = False
    asks_keys: ClassVar[bool] = False

    hearing: Hearing | None = None

    def __init__(self, weight: float) -> None:
        super().__init__()
        self.weight = weight

    @classmethod
    def build(cls, weight: float, given: Given) -> Self:  # noqa: ARG003
        """The term of a run; for one that needs more than its weight, to be overridden."""
        return cls(weight)

    @abstractmethod
    def forward(self, seen: Seen) -> torch.Tensor:
        """The term's value; whatever it remembers is read before it is brought up to date."""

    def memory(self) -> dict[str, dict[str, torch.Tensor]]:
        """What a checkpoint has to keep, by owner, then by name; not copies. Here: all registered buffers."""
        buffers = dict(self.named_buffers())
        return {f"term {self.name}": buffers} if buffers else {}

    def load_memory(self, state: Mapping[str, Mapping[str, torch.Tensor]]) -> None:
        """Go on with what `memory()` gave.

        Raises:
            InputError: something of it is missing or has another shape.
        """
        load_tensors(dict(self.named_buffers()), state.get(f"term {self.name}", {}))


class PretextTerm(Term):
    """Cross-entropy of the pretext classes."""

    name = "pretext"
    title = "Pretext cross-entropy"
    unit = "nats"
    reads = frozenset({"pretext_logits"})

    def forward(self, seen: Seen) -> torch.Tensor:
        """Mean over the batch."""
        return F.cross_entropy(seen.student.pretext_logits, seen.batch.pretext_label)


class ContrastTerm(Term):
    """NCE_1 + NCE_3: softmax cross-entropy of the first clip and of the third clip."""

    name = "contrast"
    title = "Contrast: NCE of clips 1 and 3"
    unit = "nats"
    reads = frozenset({"first", "third"})
    asks_contrast = True

    def forward(self, seen: Seen) -> torch.Tensor:
        """Mean over the batch."""
        assert seen.contrast is not None
        first, third = seen.contrast
        return nce_loss(first) + nce_loss(third)


PCL_TERMS: tuple[type[Term], ...] = (PretextTerm, ContrastTerm)


def nce_loss(logits: torch.Tensor) -> torch.Tensor:
    """Softmax cross-entropy, in nats, of logits [B, 1 + K] whose column 0 is right; mean over the batch."""
    return F.cross_entropy(logits, torch.zeros(logits.shape[0], dtype=torch.int64, device=logits.device))
