"""Distillation of a distribution: relative entropy between softened softmax outputs.

Source: Hinton et al., "Distilling the Knowledge in a Neural Network", arXiv 1503.02531.
"""

import torch
import torch.nn.functional as F

__all__ = ["soft_kl"]


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
    if student_logits.shape != teacher_logits.shape:
        raise ValueError(
            f"student logits {list(student_logits.shape)} and teacher logits {list(teacher_logits.shape)} differ"
        )
    with torch.autocast(student_logits.device.type, enabled=False):
        student = F.log_softmax(student_logits.float() / temperature, dim=1)
        teacher = F.log_softmax(teacher_logits.detach().float() / temperature, dim=1)
        return temperature**2 * F.kl_div(student, teacher, reduction="batchmean", log_target=True)
