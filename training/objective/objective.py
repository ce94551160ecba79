"""What is learned: an objective takes a batch and gives named losses; the loop knows no more than that.

    PCL     loss = w_p CE(pretext) + w_c (NCE_1 + NCE_3)
    PCL+KD  loss = PCL + f (v_p KD_pretext + v_c KD_contrast + v_f KD_feature + v_r KD_relation)

Each term is an object, PCL's in `terms`, those of teachers in `distillation`; f rises from 0 to 1 in the warm-up
and is 0 in steps that do not ask the teachers.

Sources: PCL, arXiv 2010.15464; Camarena et al., "Boosting Self-supervised Video-based Human Action Recognition Through
Knowledge Distillation" (PCL loss plus relative entropy between softened softmax outputs of a frozen teacher).
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Self

import torch
from torch import nn

from pclkd.pipeline.batch import ClipBatch
from pclkd.sharding.common.errors import InputError
from pclkd.training.models.memory_layout import arranged
from pclkd.training.models.pcl_model import PclModel, PclOutput
from pclkd.training.objective.bank import BankContrast
from pclkd.training.objective.distillation import (
    KdContrastTerm,
    KdFeatureTerm,
    KdPretextTerm,
    KdRelationTerm,
    load_owner,
    teacher_owner,
)
from pclkd.training.objective.fit import adapter_dims, check_fit, inner_model
from pclkd.training.objective.queue import KeyEncoder, QueueContrast
from pclkd.training.objective.settings import KdSettings, PclSettings
from pclkd.training.objective.source import ContrastSource, InBatchContrast
from pclkd.training.objective.terms import ContrastTerm, Logits, PretextTerm, Seen, Term

__all__ = ["KdSettings", "Objective", "PclSettings", "adapter_dims"]

Memory = dict[str, dict[str, torch.Tensor]]


class Objective(nn.Module):
    """Pretext-Contrastive Learning of a student, which may also imitate frozen teachers.

    `objective(batch)` gives float32 scalars by name. Only "loss" carries a gradient.

        loss              what to minimise: the weighted sum
        pretext           cross-entropy of the pretext classes, nats, unweighted
        contrast          NCE_1 + NCE_3, nats, unweighted
        kd_pretext        T^2 KL(teacher || student) over the pretext classes, nats, unweighted
        kd_contrast       the same over what both compare with; mean over the first and third clip
        kd_feature        squared distance of unit feature vectors
        kd_relation       relative entropy of similarities to a queue of the teacher's features
        pretext_top1_pct  pretext accuracy of this batch, percent
        embedding_spread  how far the first clips' embeddings lie apart: 1 for random directions, 0 where all are one
        agreement_pct     samples on whose pretext class student and first teacher agree, percent

    A student without a pretext classifier has no pretext terms. A term of weight 0 is not computed and not in the
    result; where no term asks them, the teachers are not called. The caller opens autocast around the call; losses and
    memories work in float32 all the same. Each call updates the memories, after they were read. Every rank must call
    with the same number of samples.

    Teachers see exactly the student's clips. They stay in eval mode, whatever `train()` is called with, get no
    gradient, and keep their batch-norm statistics. Their banks go on being updated with what they say now: rows from a
    checkpoint were written in train mode and with other augmentations, and without a checkpoint they are random, so
    both become a fair memory of the frozen teacher after an epoch, with the same lag as the student's.

    A checkpoint takes the student's own state_dict and `memory_state()`, not this module's state_dict.

    Args:
        student: a PclModel, or one wrapped by DistributedDataParallel.
        rows: training videos: rows of a memory bank.
        settings: of PCL.
        seed: the run's seed.
        teachers: to imitate, of any architecture; they are frozen here.
        kd: of the distillation.
        teacher_banks: for each teacher its own run's memory (`memory_state()["student"]` there), or None.

    Raises:
        InputError: fewer than two videos, every weight is 0, or a teacher does not fit this run.
        ValueError: the student's embeddings or adapters do not have the lengths that the settings and teachers ask.
    """

    def __init__(
        self,
        student: nn.Module,
        rows: int,
        settings: PclSettings,
        seed: int,
        *,
        teachers: Sequence[PclModel] = (),
        kd: KdSettings | None = None,
        teacher_banks: Sequence[Mapping[str, torch.Tensor] | None] = (),
    ) -> None:
        super().__init__()
        self.settings, self.kd = settings, kd or KdSettings()
        self.student, self.row_count, self.seed = student, rows, seed
        self.teachers = nn.ModuleList(teacher.requires_grad_(False).eval() for teacher in teachers)
        self._classes = inner_model(student).pretext_classes
        check_fit(inner_model(student), teachers, rows, settings, self.kd)
        self.terms = nn.ModuleList(self._build_terms(teachers, teacher_banks))
        if not self.terms:
            raise InputError("every loss weight is 0", remedy="give one term a positive weight")
        compares = any(term.asks_contrast for term in self._terms())
        self.source = self._source(settings.embedding_dim, 0) if compares else None
        queued = compares and settings.contrast == "queue"
        self.keys = KeyEncoder(inner_model(student), settings.key_momentum) if queued else None
        self.calls = 0

    def train(self, mode: bool = True) -> Self:
        """As in nn.Module, but the teachers stay in eval mode."""
        super().train(mode)
        self.teachers.eval()
        return self

    def forward(self, batch: ClipBatch) -> dict[str, torch.Tensor]:
        """Named losses of a training batch; see the class. `batch.valid` is ignored: training batches are full."""
        share = self._kd_share(batch.epoch)
        terms = [term for term in self._terms() if share > 0 or not term.asks_teachers]
        # Once: every network would else rearrange the loader's clips for itself.
        batch = replace(batch, clips=arranged(batch.clips, inner_model(self.student).base_network))
        said: PclOutput = self.student(batch.clips)
        asked = any(term.asks_teachers for term in terms)
        taught = tuple(self._ask(teacher, batch.clips) for teacher in self.teachers) if asked else ()
        compared = self.source is not None and any(term.asks_contrast for term in terms)
        keys = self._keys(said, batch.clips) if compared else said
        # Off inside, whatever the caller's autocast: a softmax over 1 + K rows at temperature 0.07 needs float32.
        with torch.autocast(batch.clips.device.type, enabled=False):
            logits: Logits | None = None
            drawn: torch.Tensor | None = None
            if self.source is not None and compared:
                drawn = self.source.draw(batch)
                logits = self.source.compare(said, keys, batch, drawn)
            seen = Seen(batch, said, taught, logits, drawn)
            values = [(term, term(seen)) for term in terms]
            loss = sum(
                ((share if term.asks_teachers else 1.0) * term.weight * value for term, value in values),
                start=torch.zeros((), device=batch.clips.device),
            )
            loss = loss + 0.0 * _unused(said, {term.name for term in terms}, compared=compared)
            reported = {term.name: value.detach() for term, value in values}
            if self._classes:
                correct = said.pretext_logits.detach().argmax(dim=1) == batch.pretext_label
                reported["pretext_top1_pct"] = 100 * correct.float().mean()
            reported |= _health(said, taught)
            return {"loss": loss, **reported}

    def memory_state(self) -> Memory:
        """What a checkpoint keeps beside the student's weights, by owner, then by name; not copies.

        "student" and "teacher" are what each compares with. The teachers' weights are not part of it.
        """
        memory: Memory = {"student": self.source.state() if self.source else {}}
        memory |= {teacher_owner(number): {} for number in range(len(self.teachers))}
        for term in self._terms():
            memory |= term.memory()
        if self.keys is not None:
            memory["keys"] = self.keys.state()
        if self.kd.teacher_every > 1:
            memory["steps"] = {"calls": torch.tensor(self.calls)}
        return memory

    def load_memory_state(self, state: Mapping[str, Mapping[str, torch.Tensor]]) -> None:
        """Go on with what `memory_state()` gave.

        Raises:
            InputError: an owner or a memory is missing, or has another shape.
        """
        if self.source:
            load_owner(self.source, state, "student")
        for term in self._terms():
            term.load_memory(state)
        if self.keys is not None:
            self.keys.load(state.get("keys", {}))
        if self.kd.teacher_every > 1:
            self.calls = int(state.get("steps", {}).get("calls", torch.tensor(0)))

    def _terms(self) -> list[Term]:
        return [term for term in self.terms if isinstance(term, Term)]

    def _kd_share(self, epoch: int) -> float:
        """The factor f of this step's distillation."""
        turn = self.calls % self.kd.teacher_every == 0
        self.calls += 1
        if not turn:
            return 0.0
        return min(1.0, epoch / self.kd.warmup_epochs) if self.kd.warmup_epochs else 1.0

    @torch.inference_mode()
    def _ask(self, teacher: nn.Module, clips: torch.Tensor) -> PclOutput:
        said: PclOutput = teacher(clips)
        return said

    def _keys(self, said: PclOutput, clips: torch.Tensor) -> PclOutput:
        return said if self.keys is None else self.keys(inner_model(self.student), clips)

    def _build_terms(
        self, teachers: Sequence[PclModel], banks: Sequence[Mapping[str, torch.Tensor] | None]
    ) -> list[Term]:
        """The terms whose weight is not 0."""
        settings, kd = self.settings, self.kd
        averaged = kd.combine == "average"
        terms: list[Term] = []
        asks = self._classes > 0
        if asks and settings.pretext_weight > 0:
            terms.append(PretextTerm(settings.pretext_weight))
        if settings.contrast_weight > 0 and settings.contrast != "none":
            terms.append(ContrastTerm(settings.contrast_weight))
        if not teachers:
            return terms
        if asks and kd.pretext_weight > 0:
            terms.append(KdPretextTerm(kd.pretext_weight, kd.pretext_temperature, averaged=averaged))
        if kd.contrast_weight > 0:
            sources = [self._source(teacher.embedding_dim, 1 + number) for number, teacher in enumerate(teachers)]
            for source, bank in zip(sources, banks, strict=False):
                if bank:
                    source.load(bank)
            terms.append(KdContrastTerm(kd.contrast_weight, kd.contrast_temperature, sources, averaged=averaged))
        if kd.feature_weight > 0:
            terms.append(KdFeatureTerm(kd.feature_weight))
        if kd.relation_weight > 0:
            relation = KdRelationTerm(
                kd.relation_weight,
                [teacher.base_network.feature_dim for teacher in teachers],
                size=kd.relation_queue,
                teacher_temperature=kd.relation_teacher_temperature,
                student_temperature=kd.relation_student_temperature,
                seed=self.seed,
            )
            terms.append(relation)
        return terms

    def _source(self, dim: int, pair: int) -> ContrastSource:
        """What one network compares with."""
        settings = self.settings
        if settings.contrast == "bank":
            return BankContrast(
                self.row_count,
                dim,
                negatives=settings.negatives,
                temperature=settings.nce_temperature,
                momentum=settings.bank_momentum,
                seed=self.seed,
                pair=pair,
            )
        if settings.contrast == "queue":
            return QueueContrast(
                settings.queue_size, dim, temperature=settings.nce_temperature, seed=self.seed, pair=pair
            )
        return InBatchContrast(temperature=settings.nce_temperature)


def _health(said: PclOutput, taught: Sequence[PclOutput]) -> dict[str, torch.Tensor]:
    """Signs of a collapse; they cost next to nothing."""
    first = said.first.detach()
    # The variances of a unit vector's D numbers over random directions sum up to 1.
    found = {"embedding_spread": first.var(dim=0, correction=0).sum().sqrt()}
    if taught and said.pretext_logits.shape == taught[0].pretext_logits.shape and said.pretext_logits.shape[1]:
        same = said.pretext_logits.detach().argmax(1) == taught[0].pretext_logits.argmax(1)
        found["agreement_pct"] = 100 * same.float().mean()
    return found


def _unused(said: PclOutput, names: set[str], *, compared: bool) -> torch.Tensor:
    """The sum of what no term looked at: DistributedDataParallel waits for the gradient of every parameter."""
    idle = [] if names & {"pretext", "kd_pretext"} else [said.pretext_logits]
    idle += [] if compared else [said.first, said.third]
    idle += [] if names & {"kd_feature", "kd_relation"} else [*said.adapted]
    return torch.stack([output.sum() for output in idle]).sum() if idle else said.pretext_logits.new_zeros(())
