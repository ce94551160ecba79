"""Distillation of what a frozen teacher answers, as softened distributions; that of its features is in `features`.

    KdPretextTerm     relative entropy of the pretext classes, the paper's literal reading
    KdContrastTerm    relative entropy of the similarities to the same videos, each network with its own memory

Neither depends on the two architectures. Sources: Hinton et al., arXiv 1503.02531 (softened outputs); Camarena et al.,
"Boosting Self-supervised Video-based Human Action Recognition Through Knowledge Distillation" (of the pretext task);
SEED, arXiv 2101.04731 (contrastive distributions).
"""

from collections.abc import Mapping, Sequence
from typing import Self

import torch
from torch import nn

from pclkd.sharding.common.errors import InputError
from pclkd.training.objective.hearing import Hearing, teacher_owner
from pclkd.training.objective.softened import imitate
from pclkd.training.objective.source import ContrastSource
from pclkd.training.objective.terms import Asked, Given, Seen, Term

__all__ = ["KdContrastTerm", "KdPretextTerm", "load_owner"]


class KdPretextTerm(Term):
    """T^2 KL(teacher || student) over the pretext classes.

    Args:
        weight: of the term.
        temperature: T.
        asked: the teachers that have a pretext classifier.
        hearing: which of them.
        averaged: with several teachers: one KL to the mean of their softened distributions, or else the mean of the
            KLs to each.
    """

    name = "kd_pretext"
    title = "Distillation of the pretext distribution"
    unit = "nats"
    reads = frozenset({"pretext_logits"})
    asks_teachers = True

    hearing: Hearing

    def __init__(self, weight: float, temperature: float, asked: Asked, hearing: Hearing, *, averaged: bool) -> None:
        super().__init__(weight)
        self.temperature, self.asked = temperature, asked
        self.averaged = averaged
        self.hearing = hearing

    @classmethod
    def build(cls, weight: float, given: Given) -> Self:
        """As in Term."""
        remedy = "take another teacher, or --set kd.pretext_weight=0"
        asked = given.asked(lambda teacher: teacher.pretext_classes > 0)
        hearing = Hearing(cls.name, "pretext", asked.numbers, given.kd.least_said, remedy)
        return cls(weight, given.kd.pretext_temperature, asked, hearing, averaged=given.kd.combine == "average")

    def forward(self, seen: Seen) -> torch.Tensor:
        """Mean over the batch."""
        said = [seen.teachers[number].pretext_logits for number in self.asked.numbers]
        heard = self.hearing.listen([*zip(said, self.asked.weights, strict=True)], said)
        taught, weights = zip(*heard, strict=True)
        return imitate(seen.student.pretext_logits, taught, weights, self.temperature, self.averaged)


class KdContrastTerm(Term):
    """(KL_1 + KL_3) / 2, T^2 KL(teacher || student) of the contrastive distributions.

    Each network compares with its OWN memory, at the SAME videos, so neither the architecture nor the length of an
    embedding has to agree.

    Args:
        weight: of the term.
        temperature: T, on top of the contrastive softmax's own.
        sources: one of each teacher, of the student's kind.
        asked: the teachers that have a projector.
        hearing: which of them.
        averaged: as in KdPretextTerm.
    """

    name = "kd_contrast"
    title = "Distillation of the contrastive distribution"
    unit = "nats"
    reads = frozenset({"first", "third"})
    asks_teachers = True
    asks_contrast = True

    hearing: Hearing

    def __init__(
        self,
        weight: float,
        temperature: float,
        sources: Sequence[ContrastSource],
        asked: Asked,
        hearing: Hearing,
        *,
        averaged: bool,
    ) -> None:
        super().__init__(weight)
        self.temperature, self.averaged, self.asked = temperature, averaged, asked
        self.sources = nn.ModuleList(sources)
        self.hearing = hearing

    @classmethod
    def build(cls, weight: float, given: Given) -> Self:
        """Each teacher starts with what its own run compared with, where that is known."""
        kd, sharpness = given.kd, given.kd.contrast_teacher_temperature or given.pcl.nce_temperature
        asked = given.asked(lambda teacher: teacher.embedding_dim > 0)
        sources = [
            given.source(given.teachers[number].embedding_dim, 1 + number, sharpness) for number in asked.numbers
        ]
        for source, number in zip(sources, asked.numbers, strict=True):
            if number < len(given.banks) and (bank := given.banks[number]):
                source.load(bank)
        remedy = (
            f"sharpen it (--set kd.contrast_teacher_temperature=, {sharpness:g} here, 0.04 and less in SEED), take "
            "another teacher, or --set kd.contrast_weight=0"
        )
        hearing = Hearing(cls.name, "contrast", asked.numbers, kd.least_said, remedy)
        return cls(weight, kd.contrast_temperature, sources, asked, hearing, averaged=kd.combine == "average")

    def forward(self, seen: Seen) -> torch.Tensor:
        """Mean over the batch and over the two clips."""
        assert seen.contrast is not None
        said, random_for = [], 0
        for source, number in zip(self.sources, self.asked.numbers, strict=True):
            assert isinstance(source, ContrastSource)
            teacher = seen.teachers[number]
            said.append(source.compare(teacher, teacher, seen.batch, seen.drawn))
            random_for = max(random_for, source.random_for)
        weighed = [*zip(said, self.asked.weights, strict=True)]
        taught, weights = zip(
            *self.hearing.listen(weighed, [torch.stack(clips) for clips in said], random_for), strict=True
        )
        clips = [
            imitate(own, [logits[clip] for logits in taught], weights, self.temperature, self.averaged)
            for clip, own in enumerate(seen.contrast)
        ]
        return 0.5 * (clips[0] + clips[1])

    def memory(self) -> dict[str, dict[str, torch.Tensor]]:
        """The teachers' memories, by teacher."""
        return {
            teacher_owner(number): source.state()
            for number, source in zip(self.asked.numbers, self.sources, strict=True)
            if isinstance(source, ContrastSource)
        }

    def load_memory(self, state: Mapping[str, Mapping[str, torch.Tensor]]) -> None:
        """As in Term."""
        for number, source in zip(self.asked.numbers, self.sources, strict=True):
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
