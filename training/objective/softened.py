"""Relative entropy between softened distributions: what it costs a student to say something else than its teachers.

Source: Hinton et al., arXiv 1503.02531.
"""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F

__all__ = ["imitate", "soft_kl", "soft_kl_to_mean", "weighted_mean"]


def soft_kl(student_logits: torch.Tensor, teacher_logits: torch.Tensor, temperature: float) -> torch.Tensor:
    """T^2 * KL(teacher || student) of softmax(logits / T), in nats, mean over the batch.

    The factor T^2 keeps the size of the gradient when T changes. The teacher gets no gradient.

    Args:
        student_logits: [B, N], any float type.
        teacher_logits: [B, N], any float type.
        temperature: T > 0.

    Returns:
        float32 scalar, whatever the types of the logits and whatever autocast does.

    Raises:
        ValueError: the two do not have the same shape.
    """
    return soft_kl_to_mean(student_logits, [teacher_logits], temperature)


def soft_kl_to_mean(
    student_logits: torch.Tensor,
    teachers_logits: Sequence[torch.Tensor],
    temperature: float,
    weights: Sequence[float] = (),
) -> torch.Tensor:
    """T^2 * KL(mean of the teachers || student): the mean is taken over their softened distributions.

    Args:
        student_logits: [B, N], any float type.
        teachers_logits: one or more of [B, N], any float type; they get no gradient.
        temperature: T > 0.
        weights: of the teachers in their mean; all alike where none are given.

    Returns:
        float32 scalar, whatever the types of the logits and whatever autocast does.

    Raises:
        ValueError: a teacher's logits have another shape than the student's.
    """
    for logits in teachers_logits:
        if student_logits.shape != logits.shape:
            raise ValueError(
                f"student logits {list(student_logits.shape)} and teacher logits {list(logits.shape)} differ"
            )
    with torch.autocast(student_logits.device.type, enabled=False):
        student = F.log_softmax(student_logits.float() / temperature, dim=1)
        each = torch.stack([F.log_softmax(logits.detach().float() / temperature, dim=1) for logits in teachers_logits])
        # log of the mean of the probabilities; a single teacher's come back as they are
        if len(set(weights)) > 1:
            # Numbers of Python's: a tensor of them would have to be waited for.
            usual = sum(weights) / len(weights)
            each = torch.stack([own + math.log(weight / usual) for own, weight in zip(each, weights, strict=True)])
        teacher = each[0] if len(each) == 1 else torch.logsumexp(each, dim=0) - math.log(len(each))
        return temperature**2 * F.kl_div(student, teacher, reduction="batchmean", log_target=True)


def imitate(
    student: torch.Tensor,
    teachers: Sequence[torch.Tensor],
    weights: Sequence[float],
    temperature: float,
    averaged: bool,
) -> torch.Tensor:
    """Distil one or more teachers.

    Args:
        student: logits [B, N].
        teachers: logits [B, N] each.
        weights: of the teachers.
        temperature: T > 0.
        averaged: True: one relative entropy to the mean of the teachers' softened distributions; False: the mean of
            the relative entropies to each.
    """
    if averaged:
        return soft_kl_to_mean(student, teachers, temperature, weights)
    return weighted_mean([soft_kl(student, teacher, temperature) for teacher in teachers], weights)


def weighted_mean(values: Sequence[torch.Tensor], weights: Sequence[float]) -> torch.Tensor:
    """The mean of scalars, one a teacher, each with its teacher's weight."""
    if len(set(weights)) > 1:
        values = [value * (weight * len(weights) / sum(weights)) for value, weight in zip(values, weights, strict=True)]
    return torch.stack([*values]).mean()
