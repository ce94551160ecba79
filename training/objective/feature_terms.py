"""Distillation of features: where a teacher's vectors lie, and how they lie to each other.

A learned linear map (the model's adapter) takes the student's features to the teacher's length first, so any two
architectures fit. Both networks' vectors are compared by direction alone.

Sources: FitNets, arXiv 1412.6550 (regression through a learned map); SEED, arXiv 2101.04731 (similarities to a queue of
the teacher's vectors).
"""

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import nn

from pclkd.training.compute.collective import gather_rows_together
from pclkd.training.objective.queue import EmbeddingQueue
from pclkd.training.objective.source import load_tensors
from pclkd.training.objective.terms import Seen, Term

__all__ = ["KdFeatureTerm", "KdRelationTerm"]

_FIRST_QUEUE = 100  # numbers far above those of the contrast sources, so that no two memories start alike


class KdFeatureTerm(Term):
    """Squared distance between the unit vectors of student and teacher, 0 to 4; mean over clips and teachers."""

    asks_teachers = True

    def __init__(self, weight: float) -> None:
        super().__init__("kd_feature", weight)

    def forward(self, seen: Seen) -> torch.Tensor:
        """Mean over all clips of the batch."""
        distances = [
            # |a - b|^2 = 2 - 2 cos
            2 - 2 * F.cosine_similarity(own.float(), said.features.detach().float(), dim=-1).mean()
            for own, said in zip(seen.student.adapted, seen.teachers, strict=True)
        ]
        return torch.stack(distances).mean()


class KdRelationTerm(Term):
    """Relative entropy between the similarities of teacher and student to a queue of the teacher's vectors, nats.

    For each video (mean of its clips' features) the teacher gives softmax(cos(teacher, queue) / T_t) and the student
    softmax(cos(adapted student, queue) / T_s); the teacher's own vector of that video stands first in the queue.

    Args:
        weight: of the term.
        teacher_dims: feature length of each teacher.
        size: vectors in a queue.
        teacher_temperature: T_t.
        student_temperature: T_s.
        seed: the run's seed.
    """

    asks_teachers = True

    def __init__(
        self,
        weight: float,
        teacher_dims: Sequence[int],
        *,
        size: int,
        teacher_temperature: float,
        student_temperature: float,
        seed: int,
    ) -> None:
        super().__init__("kd_relation", weight)
        self.teacher_temperature, self.student_temperature = teacher_temperature, student_temperature
        self.queues = nn.ModuleList(
            EmbeddingQueue(size, dim, seed, which=_FIRST_QUEUE + number) for number, dim in enumerate(teacher_dims)
        )

    def forward(self, seen: Seen) -> torch.Tensor:
        """Mean over the batch and over the teachers; every rank's vectors are remembered."""
        values = []
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
            values.append(
                F.kl_div(
                    F.log_softmax(mine / self.student_temperature, dim=1),
                    F.log_softmax(theirs / self.teacher_temperature, dim=1),
                    reduction="batchmean",
                    log_target=True,
                )
            )
            queue.push(*gather_rows_together(teacher, seen.batch.sample_index))
        return torch.stack(values).mean()

    def memory(self) -> dict[str, dict[str, torch.Tensor]]:
        """The queues, under "relation"."""
        return {"relation": self._state()}

    def load_memory(self, state: Mapping[str, Mapping[str, torch.Tensor]]) -> None:
        """As in Term."""
        load_tensors(self._state(), state.get("relation", {}))

    def _state(self) -> dict[str, torch.Tensor]:
        return {
            f"{name}{number}": value
            for number, queue in enumerate(self.queues)
            if isinstance(queue, EmbeddingQueue)
            for name, value in queue.state().items()
        }
