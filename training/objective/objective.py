"""What is learned: an objective takes a batch and gives named losses; the loop knows no more than that.

    PCL     loss = w_p CE(pretext) + w_c (NCE_1 + NCE_3)
    PCL+KD  loss = PCL + f (v_p KD_pretext + v_c KD_contrast + v_f KD_feature + v_r KD_relation + v_g KD_grid)

Each term is an object, PCL's in `terms`, those of teachers in `distillation`, other learners' in `learners`, a user's
in `registry`; f is the lower of a rise from 0 to 1 over the warm-up and of a fall from 1 to 0, both from the first
epoch on, and 0 in steps that do not ask the teachers.

Sources: PCL, arXiv 2010.15464; Camarena et al., "Boosting Self-supervised Video-based Human Action Recognition Through
Knowledge Distillation" (PCL loss plus relative entropy between softened softmax outputs of a frozen teacher).
"""

from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from dataclasses import replace
from typing import Self

import torch
from torch import nn

from pclkd.pipeline.batch import ClipBatch
from pclkd.sharding.common.errors import InputError
from pclkd.sharding.common.settings import change
from pclkd.training.models.memory_layout import arranged
from pclkd.training.models.pcl_model import PclModel, PclOutput
from pclkd.training.objective.bank import BankContrast
from pclkd.training.objective.distillation import load_owner
from pclkd.training.objective.first_fill import fill_banks, seen_by, untrained
from pclkd.training.objective.fit import adapter_dims, check_fit, inner_model
from pclkd.training.objective.hearing import Hearing, teacher_owner
from pclkd.training.objective.past import PastSelf
from pclkd.training.objective.queue import KeyEncoder
from pclkd.training.objective.registry import chosen_terms, legend
from pclkd.training.objective.settings import KdSettings, PclSettings
from pclkd.training.objective.source import Logits
from pclkd.training.objective.terms import Given, Seen, Term

__all__ = ["KdSettings", "Objective", "PclSettings", "adapter_dims"]

Memory = dict[str, dict[str, torch.Tensor]]


class Objective(nn.Module):
    """Pretext-Contrastive Learning of a student, which may also imitate frozen teachers.

    `objective(batch)` gives float32 scalars by name. Only "loss" carries a gradient.

        loss              what to minimise: the weighted sum
        <term.name>       each term, unweighted, in its unit
        pretext_top1_pct  pretext accuracy of this batch, percent
        embedding_spread  how far the first clips' embeddings lie apart: 1 for random directions, 0 where all are one
        agreement_pct     samples on whose pretext class student and first teacher agree, percent
        teacher_entropy_* of its pretext, contrastive and relation distributions: 0 certain, 1 uniform; teacher2_... and
                          so on for others

    A student without a pretext classifier has no pretext terms. A term of weight 0 is not computed and not in the
    result; where no term asks them, the teachers are not called. The caller opens autocast around the call; losses and
    memories work in float32 all the same. Each call updates the memories, after they were read. Every rank must call
    with the same number of samples.

    Teachers see exactly the student's clips, or the view of the same moment that `teacher_views` gives them. They stay
    in eval mode, whatever `train()` is called with, get no gradient, and keep their batch-norm statistics. Their banks
    go on being updated with what they say now: rows from a checkpoint were written in train mode and with other
    augmentations, and without a checkpoint they are random, so both become a fair memory of the frozen teacher after an
    epoch, with the same lag as the student's.

    A checkpoint takes the student's own state_dict and `memory_state()`, not this module's state_dict.

    Args:
        student: a PclModel, or one wrapped by DistributedDataParallel.
        rows: training videos: rows of a memory bank.
        settings: of PCL.
        seed: the run's seed.
        teachers: to imitate, of any architecture; they are frozen here. None with `kd.self_teacher`.
        kd: of the distillation.
        teacher_banks: for each teacher its own run's memory (`memory_state()["student"]` there), or None.
        teacher_views: for each teacher which of `batch.moments` it sees, or None for the student's clips.
        teacher_answers: for each teacher what it says of the videos at [B] positions, where it is not to be asked.

    Raises:
        InputError: fewer than two videos, every weight is 0, or a teacher or a user's term does not fit this run.
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
        teacher_views: Sequence[int | None] = (),
        teacher_answers: Sequence[Callable[[torch.Tensor], PclOutput] | None] = (),
    ) -> None:
        super().__init__()
        self.settings, self.kd = settings, kd or KdSettings()
        self.student = student
        self.past: PastSelf | None = None
        if self.kd.self_teacher:
            if teachers:
                raise InputError(
                    "kd.self_teacher=true, and a teacher beside it",
                    remedy="leave out --teacher, or --set kd.self_teacher=false",
                )
            self.past = PastSelf(student)
            teachers = [self.past.network]
            # Who says nothing yet is left out for good, and this one learns.
            self.kd = change(self.kd, {"least_said": 0.0})
        self.teacher_views = [*teacher_views] or [None] * len(teachers)
        self._answers = [*teacher_answers] or [None] * len(teachers)
        self.teachers = nn.ModuleList(teacher.requires_grad_(False).eval() for teacher in teachers)
        self._classes = inner_model(student).pretext_classes
        check_fit(inner_model(student), teachers, rows, settings, self.kd)
        given = Given(settings, self.kd, rows, seed, teachers, teacher_banks)
        for teacher in teachers:
            teacher.gives_grid = self.kd.grid_weight > 0 and teacher.base_network.grid_dim is not None
        chosen = chosen_terms(settings, self.kd, pretext=self._classes > 0, teachers=len(teachers) > 0)
        self.terms = nn.ModuleList(term.build(weight, given) for term, weight in chosen.items())
        if not self.terms:
            raise InputError("every loss weight is 0", remedy="give one term a positive weight")
        for term in self._terms():
            if next(term.parameters(), None) is not None:
                raise InputError(
                    f"the term {term.name!r} has weights of its own, which nothing trains",
                    remedy="give it buffers alone; maps to the teachers' features are there for what reads 'adapted'",
                )
        compares = any(term.asks_contrast for term in self._terms())
        self.source = given.source(settings.embedding_dim, 0) if compares else None
        self._queued = compares and settings.contrast == "queue"
        followed = self._queued or any(term.asks_keys for term in self._terms())
        self.keys = KeyEncoder(inner_model(student), settings.key_momentum) if followed else None
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
        terms = [term for term in terms if term.hearing is None or not term.hearing.silent]
        # Once: every network would else rearrange the loader's clips for itself.
        batch = replace(batch, clips=arranged(batch.clips, inner_model(self.student).base_network))
        said: PclOutput = self.student(batch.clips)
        asked = any(term.asks_teachers for term in terms)
        taught = tuple(self._ask(number, batch) for number in range(len(self.teachers))) if asked else ()
        compared = self.source is not None and any(term.asks_contrast for term in terms)
        needed = (compared and self._queued) or any(term.asks_keys for term in terms)
        keys = self.keys(inner_model(self.student), batch.clips) if self.keys is not None and needed else None
        # Off inside, whatever the caller's autocast: a softmax over 1 + K rows at temperature 0.07 needs float32.
        with torch.autocast(batch.clips.device.type, enabled=False):
            logits: Logits | None = None
            drawn: torch.Tensor | None = None
            if self.source is not None and compared:
                drawn = self.source.draw(batch)
                remembered = keys if self._queued and keys is not None else said
                logits = self.source.compare(said, remembered, batch, drawn)
            seen = Seen(batch, said, taught, logits, drawn, keys)
            values = [(term, term(seen)) for term in terms]
            loss = sum(
                ((share if term.asks_teachers else 1.0) * term.weight * value for term, value in values),
                start=torch.zeros((), device=batch.clips.device),
            )
            loss = loss + 0.0 * _unused(said, frozenset().union(*(term.reads for term in terms)))
            reported = {term.name: value.detach() for term, value in values}
            if self._classes:
                correct = said.pretext_logits.detach().argmax(dim=1) == batch.pretext_label
                reported["pretext_top1_pct"] = 100 * correct.float().mean()
            reported |= _health(said, taught)
            for term in terms:
                reported |= term.hearing.figures if term.hearing is not None else {}
            return {"loss": loss, **reported}

    @property
    def has_fresh_banks(self) -> bool:
        """Whether `fill` has banks to fill: by `pcl.bank_start`, once, unless they come from a checkpoint."""
        return bool(self._fresh_banks())

    def fill(self, batches: Iterable[ClipBatch]) -> str:
        """Fill them before the first step; every rank must call, inside the caller's autocast.

        Args:
            batches: this rank's share of the training videos, each of them once.

        Returns:
            What was done, in words.
        """
        banks = self._fresh_banks()
        networks = [untrained(inner_model(self.student)), *self.teachers]
        views = [None, *self.teacher_views]
        came = fill_banks([(inner_model(networks[bank.pair]), views[bank.pair], bank) for bank in banks], batches)
        owners = ", ".join(teacher_owner(bank.pair - 1) if bank.pair else "student" for bank in banks)
        return f"the banks of {owners} start with the embeddings of {came} of {banks[0].row_count} videos"

    def memory_state(self) -> Memory:
        """What a checkpoint keeps beside the student's weights, by owner, then by name; not copies.

        "student" and "teacher" are what each compares with. The teachers' weights are not part of it.
        """
        memory: Memory = {"student": self.source.state() if self.source else {}}
        memory |= {teacher_owner(number): {} for number in range(len(self.teachers))}
        for term in self._terms():
            memory |= term.memory()
        memory |= {f"hearing {name}": hearing.state() for name, hearing in self._hearings().items()}
        if self.keys is not None:
            memory["keys"] = self.keys.state()
        if self.past is not None:
            memory["past"] = self.past.state()
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
        for name, hearing in self._hearings().items():
            hearing.load(state.get(f"hearing {name}", {}))
        if self.keys is not None:
            self.keys.load(state.get("keys", {}))
        if self.past is not None:
            self.past.load(state.get("past", {}))
        if self.kd.teacher_every > 1:
            self.calls = int(state.get("steps", {}).get("calls", torch.tensor(0)))

    def news(self) -> list[str]:
        """What the objective decided since the last call, a line each; the same on all ranks."""
        return [line for hearing in self._hearings().values() for line in hearing.news()]

    def legend(self) -> dict[str, dict[str, str]]:
        """How charts tell each term: by name, its title and unit."""
        return legend(self._terms())

    def _fresh_banks(self) -> list[BankContrast]:
        found = self.modules() if self.settings.bank_start == "network" else ()
        return sorted(
            (bank for bank in found if isinstance(bank, BankContrast) and bank.random_for), key=lambda b: b.pair
        )

    def _hearings(self) -> dict[str, Hearing]:
        return {term.name: term.hearing for term in self._terms() if term.hearing is not None}

    def _terms(self) -> list[Term]:
        return [term for term in self.terms if isinstance(term, Term)]

    def _kd_share(self, epoch: int) -> float:
        """The factor f of this step's distillation."""
        turn = self.calls % self.kd.teacher_every == 0
        self.calls += 1
        taught = self.past is None or self.past.teaches(epoch)
        if not (turn and taught):
            return 0.0
        risen = epoch / self.kd.warmup_epochs if self.kd.warmup_epochs else 1.0
        left = 1 - epoch / self.kd.fade_epochs if self.kd.fade_epochs else 1.0
        return max(0.0, min(1.0, risen, left))

    @torch.inference_mode()
    def _ask(self, number: int, batch: ClipBatch) -> PclOutput:
        if (answers := self._answers[number]) is not None:
            return answers(batch.sample_index)
        said: PclOutput = self.teachers[number](seen_by(batch, self.teacher_views[number]))
        return said


def _health(said: PclOutput, taught: Sequence[PclOutput]) -> dict[str, torch.Tensor]:
    """Signs of a collapse; they cost next to nothing."""
    first = said.first.detach()
    # The variances of a unit vector's D numbers over random directions sum up to 1.
    found = {"embedding_spread": first.var(dim=0, correction=0).sum().sqrt()}
    if taught and said.pretext_logits.shape == taught[0].pretext_logits.shape and said.pretext_logits.shape[1]:
        same = said.pretext_logits.detach().argmax(1) == taught[0].pretext_logits.argmax(1)
        found["agreement_pct"] = 100 * same.float().mean()
    return found


def _unused(said: PclOutput, read: Set[str]) -> torch.Tensor:
    """The sum of what no term reads: DistributedDataParallel waits for the gradient of every parameter."""
    heads = {"pretext_logits": [said.pretext_logits], "first": [said.first], "third": [said.third]}
    heads |= {"adapted": [*said.adapted], "adapted_grids": [*said.adapted_grids]}
    idle = [output.sum() for name, outputs in heads.items() if name not in read for output in outputs]
    return torch.stack(idle).sum() if idle else said.pretext_logits.new_zeros(())
