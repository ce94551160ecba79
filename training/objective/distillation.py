"""Distillation: what a frozen teacher adds to the loss, as softened distributions and as features.

    KdPretextTerm     relative entropy of the pretext classes, the paper's literal reading
    KdContrastTerm    relative entropy of the similarities to the same videos, each network with its own memory
    KdFeatureTerm     the features, each in its own unit, through a learned linear map (the model's adapter)
    KdRelationTerm    similarities to a queue of the teacher's vectors, through the same map

None of them depends on the two architectures. Sources: Hinton et al., arXiv 1503.02531 (softened outputs); Camarena et
al., "Boosting Self-supervised Video-based Human Action Recognition Through Knowledge Distillation" (of the pretext
task); SEED, arXiv 2101.04731 (contrastive distributions, queue of the teacher's vectors); FitNets, arXiv 1412.6550
(regression through a learned map); Wei et al., arXiv 2205.14141 (of whitened features).
"""

from collections.abc import Mapping, Sequence
from typing import Self

import torch
import torch.nn.functional as F
from torch import nn

from pclkd.sharding.common.errors import InputError
from pclkd.training.compute.distributed import gather_rows, gather_rows_together
from pclkd.training.objective.hearing import Hearing, teacher_owner
from pclkd.training.objective.queue import EmbeddingQueue
from pclkd.training.objective.softened import imitate
from pclkd.training.objective.source import ContrastSource
from pclkd.training.objective.terms import Given, Seen, Term

__all__ = [
    "KD_TERMS",
    "KdContrastTerm",
    "KdFeatureTerm",
    "KdPretextTerm",
    "KdRelationTerm",
    "load_owner",
]


class KdPretextTerm(Term):
    """T^2 KL(teacher || student) over the pretext classes.

    Args:
        weight: of the term.
        temperature: T.
        hearing: which teachers.
        averaged: with several teachers: one KL to the mean of their softened distributions, or else the mean of the
            KLs to each.
    """

    name = "kd_pretext"
    title = "Distillation of the pretext distribution"
    unit = "nats"
    reads = frozenset({"pretext_logits"})
    asks_teachers = True

    hearing: Hearing

    def __init__(self, weight: float, temperature: float, hearing: Hearing, *, averaged: bool) -> None:
        super().__init__(weight)
        self.temperature = temperature
        self.averaged = averaged
        self.hearing = hearing

    @classmethod
    def build(cls, weight: float, given: Given) -> Self:
        """As in Term."""
        remedy = "take another teacher, or --set kd.pretext_weight=0"
        hearing = Hearing(cls.name, "pretext", len(given.teachers), given.kd.least_said, remedy)
        return cls(weight, given.kd.pretext_temperature, hearing, averaged=given.kd.combine == "average")

    def forward(self, seen: Seen) -> torch.Tensor:
        """Mean over the batch."""
        said = [teacher.pretext_logits for teacher in seen.teachers]
        return imitate(seen.student.pretext_logits, self.hearing.listen(said, said), self.temperature, self.averaged)


class KdContrastTerm(Term):
    """(KL_1 + KL_3) / 2, T^2 KL(teacher || student) of the contrastive distributions.

    Each network compares with its OWN memory, at the SAME videos, so neither the architecture nor the length of an
    embedding has to agree.

    Args:
        weight: of the term.
        temperature: T, on top of the contrastive softmax's own.
        sources: one of each teacher, of the student's kind.
        hearing: which teachers.
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
        self, weight: float, temperature: float, sources: Sequence[ContrastSource], hearing: Hearing, *, averaged: bool
    ) -> None:
        super().__init__(weight)
        self.temperature = temperature
        self.averaged = averaged
        self.sources = nn.ModuleList(sources)
        self.hearing = hearing

    @classmethod
    def build(cls, weight: float, given: Given) -> Self:
        """Each teacher starts with what its own run compared with, where that is known."""
        kd, sharpness = given.kd, given.kd.contrast_teacher_temperature or given.pcl.nce_temperature
        sources = [
            given.source(teacher.embedding_dim, 1 + number, sharpness) for number, teacher in enumerate(given.teachers)
        ]
        for source, bank in zip(sources, given.banks, strict=False):
            if bank:
                source.load(bank)
        remedy = (
            f"sharpen it (--set kd.contrast_teacher_temperature=, {sharpness:g} here, 0.04 and less in SEED), take "
            "another teacher, or --set kd.contrast_weight=0"
        )
        hearing = Hearing(cls.name, "contrast", len(sources), kd.least_said, remedy)
        return cls(weight, kd.contrast_temperature, sources, hearing, averaged=kd.combine == "average")

    def forward(self, seen: Seen) -> torch.Tensor:
        """Mean over the batch and over the two clips."""
        assert seen.contrast is not None
        said, random_for = [], 0
        for source, teacher in zip(self.sources, seen.teachers, strict=True):
            assert isinstance(source, ContrastSource)
            said.append(source.compare(teacher, teacher, seen.batch, seen.drawn))
            random_for = max(random_for, source.random_for)
        taught = self.hearing.listen(said, [torch.stack(clips) for clips in said], random_for)
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


_FIRST_QUEUE = 100  # numbers far above those of the contrast sources, so that no two memories start alike


_RESTING = 1e-3  # of the mean deviation: what varies less is rounding


class KdFeatureTerm(Term):
    """Squared distance to the teacher's features, each standardised over the clips of the batch.

    Mean over features, clips and teachers: 1 for a student that says the same of every clip. Features behind a ReLU
    share a large mean, and what they say of a clip is how far it is from it: their unit vectors all lie close together,
    and a student that hits their mean has nothing left to learn.
    """

    name = "kd_feature"
    title = "Distillation of features"
    unit = "share of the variance"
    reads = frozenset({"adapted"})
    asks_teachers = True

    def forward(self, seen: Seen) -> torch.Tensor:
        """Mean over all clips of the batch; the statistics are those of all ranks' clips."""
        distances = [
            F.mse_loss(own.float(), _standardised(said.features.clone().float()))
            for own, said in zip(seen.student.adapted, seen.teachers, strict=True)
        ]
        return torch.stack(distances).mean()


def _standardised(features: torch.Tensor) -> torch.Tensor:
    """[B, V, F] with mean 0 and variance 1 over all B * V clips of all ranks; a feature that rests is 0."""
    std, mean = torch.std_mean(gather_rows(features).flatten(0, 1), dim=0, correction=0)
    return (features - mean) / (std + _RESTING * std.mean()).clamp(min=torch.finfo(std.dtype).tiny)


class KdRelationTerm(Term):
    """Relative entropy between the similarities of teacher and student to a queue of the teacher's vectors.

    For each video (mean of its clips' features) the teacher gives softmax(cos(teacher, queue) / T_t) and the student
    softmax(cos(adapted student, queue) / T_s); the teacher's own vector of that video stands first in the queue.

    Args:
        weight: of the term.
        teacher_dims: feature length of each teacher.
        size: vectors in a queue.
        teacher_temperature: T_t.
        student_temperature: T_s.
        seed: the run's seed.
        hearing: which teachers.
    """

    name = "kd_relation"
    title = "Distillation of relations to a queue"
    unit = "nats"
    reads = frozenset({"adapted"})
    asks_teachers = True

    hearing: Hearing

    def __init__(
        self,
        weight: float,
        teacher_dims: Sequence[int],
        *,
        size: int,
        teacher_temperature: float,
        student_temperature: float,
        seed: int,
        hearing: Hearing,
    ) -> None:
        super().__init__(weight)
        self.hearing = hearing
        self.teacher_temperature, self.student_temperature = teacher_temperature, student_temperature
        self.queues = nn.ModuleList(
            EmbeddingQueue(size, dim, seed, which=_FIRST_QUEUE + number) for number, dim in enumerate(teacher_dims)
        )

    @classmethod
    def build(cls, weight: float, given: Given) -> Self:
        """As in Term."""
        remedy = (
            f"sharpen it (--set kd.relation_teacher_temperature=, {given.kd.relation_teacher_temperature:g} here), "
            "take another teacher, or --set kd.relation_weight=0"
        )
        return cls(
            weight,
            [teacher.base_network.feature_dim for teacher in given.teachers],
            size=given.kd.relation_queue,
            teacher_temperature=given.kd.relation_teacher_temperature,
            student_temperature=given.kd.relation_student_temperature,
            seed=given.seed,
            hearing=Hearing(cls.name, "relation", len(given.teachers), given.kd.least_said, remedy),
        )

    def forward(self, seen: Seen) -> torch.Tensor:
        """Mean over the batch and over the teachers; every rank's vectors are remembered."""
        values, answers, size = [], [], 0
        for queue, own, said in zip(self.queues, seen.student.adapted, seen.teachers, strict=True):
            assert isinstance(queue, EmbeddingQueue)
            student = F.normalize(own.float().mean(1), dim=1)
            teacher = F.normalize(said.features.detach().float().mean(1), dim=1)
            remembered = queue.rows.clone()  # written to below, before the backward pass needs these values
            mine, theirs = (
                # b = sample, q = place in the queue
                torch.cat([torch.einsum("bd,bd->b", vectors, teacher)[:, None], vectors @ remembered.T], dim=1)
                for vectors in (student, teacher)
            )
            answers.append(theirs / self.teacher_temperature)
            values.append(
                F.kl_div(
                    F.log_softmax(mine / self.student_temperature, dim=1),
                    F.log_softmax(answers[-1], dim=1),
                    reduction="batchmean",
                    log_target=True,
                )
            )
            queue.push(*gather_rows_together(teacher, seen.batch.sample_index))
            size = len(queue.rows)
        return torch.stack(self.hearing.listen(values, answers, random_for=size)).mean()


KD_TERMS: tuple[type[Term], ...] = (KdPretextTerm, KdContrastTerm, KdFeatureTerm, KdRelationTerm)
