"""Whether student, teachers and settings fit each other."""

from collections.abc import Sequence

from torch import nn

from pclkd.sharding.common.errors import InputError
from pclkd.training.models.pcl_model import PclModel
from pclkd.training.objective.registry import weighted_terms
from pclkd.training.objective.settings import KdSettings, PclSettings

__all__ = ["adapter_dims", "check_fit", "check_teachers", "grid_dims", "inner_model"]


def check_fit(
    student: PclModel, teachers: Sequence[PclModel], rows: int, settings: PclSettings, kd: KdSettings
) -> None:
    """Refuse what cannot learn together.

    Args:
        student: to be trained.
        teachers: to be imitated.
        rows: training videos.
        settings: of PCL.
        kd: of the distillation.

    Raises:
        InputError: fewer than two videos, or a teacher that does not fit this run.
        ValueError: the student's embeddings or adapters do not have the lengths that the settings and teachers ask.
    """
    if rows < 2:
        raise InputError(f"{rows} training video(s)", remedy="contrastive training needs at least 2")
    if student.embedding_dim != settings.embedding_dim:
        raise ValueError(
            f"the student's embeddings have {student.embedding_dim} numbers, the settings say {settings.embedding_dim}"
        )
    check_teachers(teachers, settings, kd, pretext=student.pretext_classes > 0)
    if teachers and kd.contrast_weight > 0 and settings.contrast == "none":
        raise InputError(
            "pcl.contrast=none leaves nothing to compare with, and kd.contrast_weight is not 0",
            remedy="--set kd.contrast_weight=0, or another pcl.contrast",
        )
    for teacher in teachers:
        classes = {student.pretext_classes, teacher.pretext_classes} - {0}
        if student.pretext_classes and kd.pretext_weight > 0 and len(classes) > 1:
            raise InputError(
                f"the teacher knows {teacher.pretext_classes} pretext classes, the student {student.pretext_classes}",
                remedy="take a teacher of the same pretext task, or set kd.pretext_weight=0",
            )
    wanted = adapter_dims(teachers, settings, kd)
    found = [adapter.out_features for adapter in student.adapters if isinstance(adapter, nn.Linear)]
    if found != wanted:
        raise ValueError(f"the student's adapters give {found} numbers, the teachers' features have {wanted}")
    wanted = grid_dims(teachers, kd)
    found = [adapter.out_features for adapter in student.grid_adapters if isinstance(adapter, nn.Linear)]
    if found != wanted:
        raise ValueError(f"the student's maps of local features give {found} numbers, the teachers' have {wanted}")


def adapter_dims(teachers: Sequence[PclModel], settings: PclSettings, kd: KdSettings) -> list[int]:
    """The maps that a student of these teachers needs: the length of each one's features, or none at all."""
    if any("adapted" in term.reads for term in weighted_terms(settings, kd)):
        return [teacher.base_network.feature_dim for teacher in teachers]
    return []


def grid_dims(teachers: Sequence[PclModel], kd: KdSettings) -> list[int]:
    """The maps of local features that a student of these teachers needs: the length of each one's that has some."""
    if not kd.grid_weight:
        return []
    return [dim for teacher in teachers if (dim := teacher.base_network.grid_dim) is not None]


def check_teachers(teachers: Sequence[PclModel], settings: PclSettings, kd: KdSettings, *, pretext: bool) -> None:
    """Refuse weights for other teachers, and terms that none of these can feed.

    Args:
        teachers: to be imitated.
        settings: of PCL.
        kd: of the distillation.
        pretext: whether the student has a pretext classifier.

    Raises:
        InputError: with the remedy.
    """
    if kd.teacher_weights and len(kd.teacher_weights) != len(teachers):
        raise InputError(
            f"kd.teacher_weights has {len(kd.teacher_weights)} numbers for {len(teachers)} teacher(s)",
            remedy="give one for each --teacher, in their order",
        )
    whose = "the teacher" if len(teachers) == 1 else f"each of the {len(teachers)} teachers"
    able = {
        "grid": ("grid of local features", any(teacher.base_network.grid_dim is not None for teacher in teachers)),
        "pretext": ("pretext classifier", not pretext or any(teacher.pretext_classes for teacher in teachers)),
        "contrast": ("projector", settings.contrast == "none" or any(teacher.embedding_dim for teacher in teachers)),
    }
    for term, (part, there) in able.items():
        if teachers and not there and getattr(kd, f"{term}_weight") > 0:
            heads = "" if term == "grid" else ", or fit heads on the teacher (train-kd fit-heads)"
            raise InputError(
                f"{whose} has no {part}, and kd.{term}_weight is {getattr(kd, f'{term}_weight'):g}",
                remedy=f"leave that term out: --set kd.{term}_weight=0{heads}",
            )


def inner_model(student: nn.Module) -> PclModel:
    """The PclModel itself, out of its DistributedDataParallel wrapper."""
    inner = getattr(student, "module", student)
    if not isinstance(inner, PclModel):
        raise TypeError(f"the student is a {type(inner).__name__}, not a PclModel")
    return inner
