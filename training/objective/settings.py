"""Settings of what is learned: PCL, and distillation on top of it."""

from typing import Annotated, Any, Literal

from pydantic import Field

from pclkd.sharding.common.settings import Settings

__all__ = ["KdSettings", "Learner", "PclSettings"]

Learner = Literal["pcl", "moco", "simsiam", "byol", "vicreg", "barlow_twins"]

_Weight = Annotated[float, Field(ge=0, allow_inf_nan=False)]
_Temperature = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class PclSettings(Settings):
    """Settings of Pretext-Contrastive Learning; the defaults are the published ones, but for `forwards`."""

    learner: Learner = "pcl"
    """What stands where PCL's contrast does: pcl, or moco, simsiam, byol, vicreg, barlow_twins (needs lightly) between
    the first and the third clip."""
    learner_weight: _Weight = 1.0
    """Weight of that learner's loss."""
    contrast: Literal["bank", "queue", "in_batch", "none"] = "bank"
    """What clips are compared with: a memory bank of all training videos (published), a queue of a momentum encoder's
    latest keys (for data sets whose bank would be too large), the batch of all processes, or nothing."""
    negatives: int = Field(default=1024, ge=1, le=2**20)
    """Other videos that each clip is compared with, K (bank)."""
    nce_temperature: _Temperature = 0.07
    """Temperature of the contrastive softmax."""
    bank_start: Literal["random", "network"] = "random"
    """What a memory bank's rows are before the first step: random directions (published), or the untrained network's
    embeddings of the training videos, and a teacher's own where its run left none: one pass over the videos (bank)."""
    bank_momentum: float = Field(default=0.5, ge=0, lt=1)
    """Share of the old row when a memory bank is updated (bank)."""
    queue_size: int = Field(default=16384, ge=1, le=2**24)
    """Keys that each clip is compared with (queue, moco)."""
    key_momentum: float = Field(default=0.999, ge=0, lt=1)
    """Share of the old value when the momentum encoder follows the student, each batch, accumulated ones too
    (queue, moco, byol)."""
    pretext_weight: _Weight = 1.0
    """Weight of the pretext cross-entropy; 0 leaves it out."""
    contrast_weight: _Weight = 0.5
    """Weight of NCE_1 + NCE_3; 0 leaves them out."""
    pretext_head: Literal["linear", "compare"] = "linear"
    """What tells the pretext class: a linear layer over the features of the three clips (published), or a hidden layer
    that also gets the distances between them: only that one can tell a clip that is unlike its neighbours."""
    forwards: Literal["joint", "each"] = "joint"
    """One pass of the backbone over all clips of the batch, which then share batch-norm statistics, or a pass for each
    of the three views (published)."""
    embedding_dim: int = Field(default=128, ge=1, le=2**16)
    """Length of an embedding and of a memory-bank row."""
    own_terms: dict[str, _Weight] = Field(default_factory=dict)
    """Weights of terms of your own by name (register_term), as --set pcl.own_terms.NAME=0.1; 0 leaves one out."""


class KdSettings(Settings):
    """Settings of distillation from frozen teachers, on top of PCL."""

    pretext_weight: _Weight = 1.0
    """Weight of the relative entropy between the pretext distributions; 0 leaves it out."""
    pretext_temperature: _Temperature = 4.0
    """Temperature that softens the pretext distributions."""
    contrast_weight: _Weight = 1.0
    """Weight of the relative entropy between the contrastive distributions; 0 leaves it out."""
    contrast_temperature: _Temperature = 1.0
    """Temperature that softens them, on top of nce_temperature; 1 distils the contrastive softmax as it is."""
    contrast_teacher_temperature: _Temperature | None = None
    """Temperature of the teachers' contrastive softmax; null: nce_temperature. Lower is sharper: SEED takes 0.0001 to
    0.04 for the teacher and 0.2 for the student."""
    least_said: float = Field(default=0.01, ge=0, lt=1)
    """Teachers whose pretext, contrastive or relation distribution is nearer to uniform are not imitated in that:
    1 - entropy / ln N, mean over the first batches; 0 takes every teacher."""
    feature_weight: _Weight = 0.0
    """Weight of the squared distance to the teacher's standardised features, through a learned map; 0 leaves it out."""
    relation_weight: _Weight = 0.0
    """Weight of the relative entropy between similarities to a queue of the teacher's features; 0 leaves it out."""
    relation_queue: int = Field(default=4096, ge=1, le=2**24)
    """Features in that queue."""
    relation_teacher_temperature: _Temperature = 0.04
    """Softens the teacher's similarities; lower is sharper."""
    relation_student_temperature: _Temperature = 0.2
    """Softens the student's similarities."""
    grid_weight: _Weight = 0.0
    """Weight of the squared distance to the teacher's standardised local features, on the cells that both networks
    have, through a learned map; 0 leaves it out."""
    teacher_weights: tuple[_Temperature, ...] = ()
    """Several teachers: how much each counts beside the others, in their order; empty: all alike."""
    teacher_specs: tuple[dict[str, Any], ...] = ()
    """What is known better of the teachers than their files or families tell (frames, size, stride, modality, mean,
    std, colours, images, feature, prefix, grid): one for each, or one for all, as [{"frames": 8, "size": 224}]."""
    teacher_cache_gib: float = Field(default=8.0, gt=0)
    """Room for the features that --teacher-cache keeps in its folder, in GiB; the longest unused go first."""
    warmup_epochs: int = Field(default=0, ge=0)
    """Epochs over which the weights of distillation rise from 0, linearly."""
    fade_epochs: int = Field(default=0, ge=0)
    """Epochs, from the first one on, over which they fall to 0, linearly (the lower of rise and fall holds); from then
    on the student learns by itself, and the teachers are not asked; 0: they stay."""
    teacher_every: int = Field(default=1, ge=1)
    """Batches, accumulated ones too, from one question to the teachers to the next; those between learn from PCL
    alone."""
    self_teacher: bool = False
    """The student's only teacher is itself, as it was when the epoch before ended; in its first epoch it has none. What
    it says is imitated however little it is: least_said is for others."""
    combine: Literal["average", "each"] = "average"
    """Several teachers: imitate the mean of their softened distributions, or each of them (the mean of the losses)."""
