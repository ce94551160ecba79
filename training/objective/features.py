"""Distillation of a frozen teacher's features: of whole clips, of their relations, and of places within them.

    KdFeatureTerm     the features, each in its own unit, through a learned linear map (the model's adapter)
    KdRelationTerm    similarities to a queue of the teacher's vectors, through the same map
    KdGridTerm        local features, each in its own unit, through a learned linear map of their own

None of them depends on the two architectures. Sources: FitNets, arXiv 1412.6550 (regression through a learned map); Wei
et al., arXiv 2205.14141 (of whitened features); SEED, arXiv 2101.04731 (queue of the teacher's vectors).
"""

from collections.abc import Sequence
from typing import Self

import torch
import torch.nn.functional as F
from torch import nn

from pclkd.training.compute.distributed import gather_rows, gather_rows_together
from pclkd.training.objective.distillation import KdContrastTerm, KdPretextTerm
from pclkd.training.objective.hearing import Hearing
from pclkd.training.objective.queue import EmbeddingQueue
from pclkd.training.objective.softened import weighted_mean
from pclkd.training.objective.terms import Asked, Given, Seen, Term

__all__ = ["KD_TERMS", "KdFeatureTerm", "KdGridTerm", "KdRelationTerm"]

_FIRST_QUEUE = 100  # numbers far above those of the contrast sources, so that no two memories start alike


_RESTING = 1e-3  # of the mean deviation: what varies less is rounding


class _Distance(Term):
    """A distance to what some teachers say.

    Args:
        weight: of the term.
        asked: the teachers that say it.
    """

    asks_teachers = True

    def __init__(self, weight: float, asked: Asked) -> None:
        super().__init__(weight)
        self.asked = asked


class KdFeatureTerm(_Distance):
    """Squared distance to the teacher's features, each standardised over the clips of the batch.

    Mean over features, clips and teachers: 1 for a student that says the same of every clip. Features behind a ReLU
    share a large mean, and what they say of a clip is how far it is from it: their unit vectors all lie close together,
    and a student that hits their mean has nothing left to learn.
    """

    name = "kd_feature"
    title = "Distillation of features"
    unit = "share of the variance"
    reads = frozenset({"adapted"})

    @classmethod
    def build(cls, weight: float, given: Given) -> Self:
        """As in Term."""
        return cls(weight, given.asked())

    def forward(self, seen: Seen) -> torch.Tensor:
        """Mean over all clips of the batch; the statistics are those of all ranks' clips."""
        distances = [
            F.mse_loss(own.float(), _standardised(said.features.clone().float()))
            for own, said in zip(seen.student.adapted, seen.teachers, strict=True)
        ]
        return weighted_mean(distances, self.asked.weights)


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
        asked: all teachers, with their weights.
        hearing: which of them.
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
        asked: Asked,
        hearing: Hearing,
    ) -> None:
        super().__init__(weight)
        self.asked, self.hearing = asked, hearing
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
        asked = given.asked()
        return cls(
            weight,
            [teacher.base_network.feature_dim for teacher in given.teachers],
            size=given.kd.relation_queue,
            teacher_temperature=given.kd.relation_teacher_temperature,
            student_temperature=given.kd.relation_student_temperature,
            seed=given.seed,
            asked=asked,
            hearing=Hearing(cls.name, "relation", asked.numbers, given.kd.least_said, remedy),
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
        heard = self.hearing.listen([*zip(values, self.asked.weights, strict=True)], answers, random_for=size)
        return weighted_mean(*zip(*heard, strict=True))


class KdGridTerm(_Distance):
    """Squared distance to the teacher's local features, each standardised over all cells of the batch.

    The student's last maps go through a learned linear map; the two grids are averaged down to the cells that both
    have, in time, rows and columns. Mean over features, cells, clips and teachers, as in KdFeatureTerm.
    """

    name = "kd_grid"
    title = "Distillation of local features"
    unit = "share of the variance"
    reads = frozenset({"adapted_grids"})

    @classmethod
    def build(cls, weight: float, given: Given) -> Self:
        """As in Term."""
        return cls(weight, given.asked(lambda teacher: teacher.base_network.grid_dim is not None))

    def forward(self, seen: Seen) -> torch.Tensor:
        """Mean over all cells of the batch; the statistics are those of all ranks'."""
        distances = []
        for own, number in zip(seen.student.adapted_grids, self.asked.numbers, strict=True):
            theirs = seen.teachers[number].grid[0].clone()
            cells = [min(sizes) for sizes in zip(own.shape[3:], theirs.shape[3:], strict=True)]
            distances.append(F.mse_loss(_local(own, cells), _standardised(_local(theirs, cells))))
        return weighted_mean(distances, self.asked.weights)


def _local(grid: torch.Tensor, cells: list[int]) -> torch.Tensor:
    """[B, V, C, t, h, w] averaged down to so many cells: [B, V * cells, C] float32."""
    pooled = F.adaptive_avg_pool3d(grid.flatten(0, 1).float(), (cells[0], cells[1], cells[2]))
    return pooled.flatten(2).transpose(1, 2).reshape(len(grid), -1, grid.shape[2])


KD_TERMS: tuple[type[Term], ...] = (KdPretextTerm, KdContrastTerm, KdFeatureTerm, KdRelationTerm, KdGridTerm)
"""All of distillation, in the order in which they are summed."""
