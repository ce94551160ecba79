"""What is learned: an objective takes a batch and gives named losses; the loop knows no more than that.

    PCL     loss = w_p CE(pretext) + w_c (NCE_1 + NCE_3)
    PCL+KD  loss = PCL + v_p T^2 KL(teacher || student, pretext softmax)
                       + v_c (KL_1 + KL_3) / 2, T^2 KL(teacher || student) of the softmax over 1 + K bank rows

Sources: PCL, arXiv 2010.15464; Camarena et al., "Boosting Self-supervised Video-based Human Action Recognition Through
Knowledge Distillation" (PCL loss plus relative entropy between softened softmax outputs of a frozen teacher).
"""

from collections.abc import Mapping, Sequence
from typing import Annotated, Self

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import nn

from pclkd.pipeline.batch import ClipBatch
from pclkd.pipeline.settings import Settings
from pclkd.sharding.errors import InputError
from pclkd.training.bank_pair import BankPair
from pclkd.training.collective import gather_rows
from pclkd.training.contrast import nce_indices, nce_loss
from pclkd.training.pcl_model import PclModel, PclOutput
from pclkd.training.soft_targets import soft_kl

__all__ = ["DistillObjective", "KdSettings", "PclObjective", "PclSettings"]

_Weight = Annotated[float, Field(ge=0, allow_inf_nan=False)]
_Temperature = Annotated[float, Field(gt=0, allow_inf_nan=False)]
_Logits = tuple[torch.Tensor, torch.Tensor]
_Terms = dict[str, tuple[float, torch.Tensor]]


class PclSettings(Settings):
    """Settings of Pretext-Contrastive Learning; the defaults are the published ones."""

    negatives: int = Field(default=1024, ge=1, le=2**20)
    """Other videos that each clip is compared with, K."""
    nce_temperature: _Temperature = 0.07
    """Temperature of the contrastive softmax."""
    bank_momentum: float = Field(default=0.5, ge=0, lt=1)
    """Share of the old row when a memory bank is updated."""
    pretext_weight: _Weight = 1.0
    """Weight of the pretext cross-entropy; 0 leaves it out."""
    contrast_weight: _Weight = 0.5
    """Weight of NCE_1 + NCE_3; 0 leaves them out."""
    embedding_dim: int = Field(default=128, ge=1)
    """Length of an embedding and of a memory-bank row."""


class KdSettings(Settings):
    """Settings of distillation from a frozen teacher, on top of PCL."""

    pretext_weight: _Weight = 1.0
    """Weight of the relative entropy between the pretext distributions; 0 leaves it out."""
    pretext_temperature: _Temperature = 4.0
    """Temperature that softens the pretext distributions."""
    contrast_weight: _Weight = 1.0
    """Weight of the relative entropy between the distributions over memory-bank rows; 0 leaves it out."""
    contrast_temperature: _Temperature = 1.0
    """Temperature that softens them, on top of nce_temperature; 1 distils the contrastive softmax as it is."""


class PclObjective(nn.Module):
    """Pretext-Contrastive Learning of a student.

    `objective(batch)` gives float32 scalars by name. Only "loss" carries a gradient.

        loss              what to minimise: the weighted sum
        pretext           cross-entropy of the pretext classes, nats, unweighted
        contrast          NCE_1 + NCE_3, nats, unweighted
        pretext_top1_pct  pretext accuracy of this batch, percent

    A term of weight 0 is not computed and not in the result. The caller opens autocast around the call; losses
    and banks work in float32 all the same. Each call updates the banks, after they were read. Every rank must call
    with the same number of samples.

    A checkpoint takes the student's own state_dict and `bank_state()`, not this module's state_dict.

    Args:
        student: a PclModel, or one wrapped by DistributedDataParallel.
        rows: training videos: rows of a memory bank.
        settings: of PCL.
        seed: the run's seed.
        further_weights: of the terms that a subclass adds.

    Raises:
        InputError: fewer than two videos, or every weight is 0.
        ValueError: the student's embeddings do not have the length that the settings say.
    """

    def __init__(
        self, student: nn.Module, rows: int, settings: PclSettings, seed: int, *, further_weights: Sequence[float] = ()
    ) -> None:
        super().__init__()
        if rows < 2:
            raise InputError(f"{rows} training video(s)", remedy="contrastive training needs at least 2")
        self._weights = (settings.pretext_weight, settings.contrast_weight, *further_weights)
        if not any(self._weights):
            raise InputError("every loss weight is 0", remedy="give one term a positive weight")
        dim = _model(student).embedding_dim
        if dim != settings.embedding_dim:
            raise ValueError(f"the student's embeddings have {dim} numbers, the settings say {settings.embedding_dim}")
        self.student = student
        self.row_count = rows
        self.settings = settings
        self.seed = seed
        self.banks = BankPair(rows, settings.embedding_dim, settings.bank_momentum, seed, pair=0)

    def forward(self, batch: ClipBatch) -> dict[str, torch.Tensor]:
        """Named losses of a training batch; see the class. `batch.valid` is ignored: training batches are full."""
        said: PclOutput = self.student(batch.clips)
        with _in_float32(batch):
            logits = self._compare(self.banks, said, self._rows(batch)) if self.settings.contrast_weight > 0 else None
            return self._report(batch, said, self._pcl_terms(batch, said, logits))

    def bank_state(self) -> dict[str, dict[str, torch.Tensor]]:
        """The memory banks for a checkpoint, by owner ("student"), then by clip ("first", "third"); not copies."""
        return {"student": self.banks.state()}

    def load_bank_state(self, state: Mapping[str, Mapping[str, torch.Tensor]]) -> None:
        """Go on with the banks of `bank_state()`.

        Raises:
            InputError: an owner or a bank is missing, or a bank has another shape.
        """
        _load(self.banks, state, "student")

    def _rows(self, batch: ClipBatch) -> torch.Tensor:
        """[B, 1 + K] rows of the banks that each sample is compared with."""
        return nce_indices(self.seed, batch.epoch, batch.sample_index, self.settings.negatives, self.row_count)

    def _compare(self, banks: BankPair, said: PclOutput, rows: torch.Tensor) -> _Logits:
        """Read a network's banks, then update them."""
        logits = banks.logits(said, rows, self.settings.nce_temperature)
        banks.update(said, gather_rows(rows[:, 0]))
        return logits

    def _pcl_terms(self, batch: ClipBatch, said: PclOutput, logits: _Logits | None) -> _Terms:
        """(weight, value) of the terms of PCL whose weight is not 0."""
        settings = self.settings
        terms: _Terms = {}
        if settings.pretext_weight > 0:
            value = F.cross_entropy(said.pretext_logits, batch.pretext_label)
            terms["pretext"] = (settings.pretext_weight, value)
        if settings.contrast_weight > 0 and logits is not None:
            first, third = logits
            terms["contrast"] = (settings.contrast_weight, nce_loss(first) + nce_loss(third))
        return terms

    def _report(self, batch: ClipBatch, said: PclOutput, terms: _Terms) -> dict[str, torch.Tensor]:
        """The weighted sum, each term without its gradient, and the pretext accuracy."""
        loss = torch.stack([weight * value for weight, value in terms.values()]).sum()
        if not all(self._weights):
            # DistributedDataParallel waits for the gradient of every parameter, a skipped head's too.
            loss = loss + 0.0 * (said.pretext_logits.sum() + said.first.sum() + said.third.sum())
        correct = said.pretext_logits.detach().argmax(dim=1) == batch.pretext_label
        reported = {name: value.detach() for name, (_, value) in terms.items()}
        return {"loss": loss, **reported, "pretext_top1_pct": 100 * correct.float().mean()}


class DistillObjective(PclObjective):
    """PCL of a student that also imitates a frozen teacher, which sees exactly the same clips.

    Adds to the result of PclObjective, unweighted and in nats:

        kd_pretext   T^2 KL(teacher || student) over the pretext classes
        kd_contrast  the same over the 1 + K rows that both compare with; mean over the first and third clip. Each
                     network reads its OWN banks at the SAME rows, so neither the architecture nor the length of an
                     embedding has to agree.

    The teacher stays in eval mode, whatever `train()` is called with, gets no gradient, and keeps its batch-norm
    statistics. Its banks go on being updated with what it says now: rows from its checkpoint were written in train mode
    and with other augmentations, and without a checkpoint they are random, so both become a fair memory of the frozen
    teacher after an epoch, with the same lag behind the clips as the student's. With both weights 0 the
    teacher is never called.

    Args:
        student: a PclModel, or one wrapped by DistributedDataParallel.
        teacher: of any architecture. It is frozen here.
        rows: training videos.
        settings: of PCL.
        kd: of the distillation.
        seed: the run's seed.
        teacher_banks: "first" and "third" of the teacher's own run (`bank_state()["student"]` there), or None.

    Raises:
        InputError: the teacher's pretext classes or banks do not fit this run.
    """

    def __init__(
        self,
        student: nn.Module,
        teacher: PclModel,
        rows: int,
        settings: PclSettings,
        kd: KdSettings,
        seed: int,
        teacher_banks: Mapping[str, torch.Tensor] | None = None,
    ) -> None:
        super().__init__(student, rows, settings, seed, further_weights=(kd.pretext_weight, kd.contrast_weight))
        classes = _model(student).pretext_classes
        if kd.pretext_weight > 0 and teacher.pretext_classes != classes:
            raise InputError(
                f"the teacher knows {teacher.pretext_classes} pretext classes, the student {classes}",
                remedy="take a teacher of the same pretext task, or set kd.pretext_weight=0",
            )
        self.kd = kd
        self.teacher = teacher.requires_grad_(False).eval()
        self.teacher_banks = BankPair(rows, teacher.embedding_dim, settings.bank_momentum, seed, pair=1)
        if teacher_banks is not None:
            self.teacher_banks.load(teacher_banks)

    def train(self, mode: bool = True) -> Self:
        """As in nn.Module, but the teacher stays in eval mode."""
        super().train(mode)
        self.teacher.eval()
        return self

    def forward(self, batch: ClipBatch) -> dict[str, torch.Tensor]:
        """Named losses of a training batch; see the class."""
        kd, wants_contrast = self.kd, self.settings.contrast_weight > 0 or self.kd.contrast_weight > 0
        said: PclOutput = self.student(batch.clips)
        taught = self._ask_teacher(batch.clips) if kd.pretext_weight > 0 or kd.contrast_weight > 0 else None
        with _in_float32(batch):
            rows = self._rows(batch) if wants_contrast else None
            logits = self._compare(self.banks, said, rows) if rows is not None else None
            terms = self._pcl_terms(batch, said, logits)
            if taught is not None and kd.pretext_weight > 0:
                value = soft_kl(said.pretext_logits, taught.pretext_logits, kd.pretext_temperature)
                terms["kd_pretext"] = (kd.pretext_weight, value)
            if taught is not None and kd.contrast_weight > 0 and rows is not None and logits is not None:
                pairs = zip(logits, self._compare(self.teacher_banks, taught, rows), strict=True)
                first, third = (soft_kl(own, wanted, kd.contrast_temperature) for own, wanted in pairs)
                terms["kd_contrast"] = (kd.contrast_weight, 0.5 * (first + third))
            return self._report(batch, said, terms)

    def bank_state(self) -> dict[str, dict[str, torch.Tensor]]:
        """As in PclObjective, with "teacher" beside "student". The teacher's weights are not part of it."""
        return {**super().bank_state(), "teacher": self.teacher_banks.state()}

    def load_bank_state(self, state: Mapping[str, Mapping[str, torch.Tensor]]) -> None:
        """As in PclObjective, both owners."""
        super().load_bank_state(state)
        _load(self.teacher_banks, state, "teacher")

    @torch.inference_mode()
    def _ask_teacher(self, clips: torch.Tensor) -> PclOutput:
        said: PclOutput = self.teacher(clips)
        return said


def _model(student: nn.Module) -> PclModel:
    """The PclModel itself, out of its DistributedDataParallel wrapper."""
    inner = getattr(student, "module", student)
    if not isinstance(inner, PclModel):
        raise TypeError(f"the student is a {type(inner).__name__}, not a PclModel")
    return inner


def _in_float32(batch: ClipBatch) -> torch.autocast:
    """The caller's autocast is off inside: a softmax over 1 + K rows at temperature 0.07 needs float32."""
    return torch.autocast(batch.clips.device.type, enabled=False)


def _load(banks: BankPair, state: Mapping[str, Mapping[str, torch.Tensor]], owner: str) -> None:
    if owner not in state:
        raise InputError(
            f"the checkpoint has no memory banks of the {owner}; it has those of {sorted(state)}",
            remedy="resume with the command that the run was started with",
        )
    banks.load(state[owner])
