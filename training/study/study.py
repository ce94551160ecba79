r"""A study carried out: its plan written, its runs trained, whatever stopped it before.

    DIR/study.json              the plan, for whoever reads the runs
    DIR/<run>/                  run folders, as train-kd pretrain and distill write them
    DIR/logs/<run>.log          what they said
    DIR/locks/                  who works on what

Several processes, on one or many hosts, may carry the same study out in one shared folder.
"""

import json
import time
from collections import Counter
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError

from pclkd.pipeline.loader.order import shuffled_steps
from pclkd.pipeline.world import World
from pclkd.sharding.common.errors import InputError
from pclkd.sharding.common.files import check_place, write_text
from pclkd.sharding.shards.index import ShardIndex
from pclkd.training.findings.records import STUDY_NAME
from pclkd.training.loop.plan import HOW_IT_LOADS
from pclkd.training.loop.progress import say
from pclkd.training.models.registry import build_backbone
from pclkd.training.runs.checkpoint import CHECKPOINT_NAME, load_checkpoint
from pclkd.training.runs.run_folder import SETTINGS_NAME, read_run
from pclkd.training.runs.trusted import read_object
from pclkd.training.settings import RunSettings, flat
from pclkd.training.study.execution import Job, Outcome, run_jobs, train_kd
from pclkd.training.study.locks import Locks
from pclkd.training.study.plan import PlannedRun, Study

__all__ = ["StudyFolder"]

_LOGS, _LOCKS = "logs", "locks"
_FREE = frozenset(
    {"log_every", "track", *(f"loader.{name}" for name in HOW_IT_LOADS)}
)  # settings that leave a run's figures alone
_WAIT_S = 0.1


class StudyFolder:
    """A study and the folder of its runs.

    Args:
        study: what is asked.
        data: the shard set.
        out: the folder.
        modules: what `train-kd --import` is to read first.

    Raises:
        InputError: settings that cannot be, too few videos for a batch of some run, a folder with a study of other
            data, or a run in it that was started with other settings.
    """

    def __init__(self, study: Study, data: str | Path, out: Path, modules: Sequence[str] = ()) -> None:
        check_place(out)
        self.study, self.data, self.out = study, data, out
        self.runs = study.runs()
        self.index = ShardIndex.open(data)
        self.locks = Locks(out / _LOCKS)
        self._imports = [f"--import={module}" for module in modules]
        self._epochs_seen: dict[str, tuple[int, int]] = {}
        self._check_data()
        self._check_networks()
        for run in self.runs:
            self._check_run(run)

    def carry_out(self, runs: Sequence[PlannedRun], at_once: int, more: Sequence[Job] = ()) -> dict[str, Outcome]:
        """Write the plan, and train what of `runs` nobody has trained or is training.

        Args:
            runs: of the plan, each after its teacher.
            at_once: how many side by side.
            more: what else is to be done, when no run waits for its turn.

        Returns:
            How each ended, by name.

        Raises:
            StoppedError: a signal came; the same call goes on.
        """
        self.out.mkdir(parents=True, exist_ok=True)
        self._write_plan()
        jobs = [
            Job(
                name=run.name,
                command=self.command(run, self.out / run.name),
                needs=run.teachers,
                done=partial(self.is_done, run),
                claim=partial(self.locks.claim, run.name),
            )
            for run in runs
        ]
        outcomes = run_jobs([*jobs, *more], at_once, self.out / _LOGS)
        counts = Counter(outcomes.values())
        told = ", ".join(f"{counts[outcome]} {outcome}" for outcome in sorted(counts))
        say(f"{self.out}: {told or 'no runs in this part'}")
        return outcomes

    def fine_tuning(self, runs: Sequence[PlannedRun], epochs: int) -> list[Job]:
        """Jobs that fine-tune each run for so many epochs once it is trained, where none has."""
        how = ("--protocol=finetune", f"--epochs={epochs}", f"--data={self.data}")
        return [
            Job(
                name=f"{run.name}-finetuned",
                command=train_kd(*self._imports, "evaluate", str(self.out / run.name), *how),
                needs=(run.name,),
                done=partial(self.is_fine_tuned, run, epochs),
                claim=partial(self.locks.claim, f"{run.name}-finetuned"),
            )
            for run in runs
        ]

    def timing(self, names: Sequence[str]) -> Job:
        """The job that measures the networks in ONNX Runtime once all of these are done and the machine is still."""
        command = train_kd(*self._imports, "latency", str(self.out), f"--data={self.data}")
        return Job("latency", command, tuple(names), claim=partial(self.locks.claim, "latency"))

    def is_fine_tuned(self, run: PlannedRun, epochs: int) -> bool:
        """Whether a run has a figure of so many epochs of fine-tuning."""
        found = read_run(self.out / run.name).evals.get("finetune", {}) if self.is_done(run) else {}
        return (found.get("finetune_epochs"), found.get("epoch")) == (epochs, self.epochs)

    def command(self, run: PlannedRun, folder: Path, *more: str) -> tuple[str, ...]:
        """The command line that trains a run into a folder, or goes on with it; later assignments win."""
        settings = ["--preset", self.study.preset, *(f"--set={change}" for change in self.study.changes(run))]
        how = ["pretrain"] if run.kind != "student" else ["distill"]
        how += [f"--teacher={self.out / teacher}" for teacher in run.teachers]
        return train_kd(
            *self._imports, *how, "--data", str(self.data), "--out", str(folder), "--resume", *settings, *more
        )

    def epochs_done(self, run: PlannedRun) -> int:
        """Finished epochs that are saved."""
        file = self.out / run.name / CHECKPOINT_NAME
        try:
            written = file.stat().st_mtime_ns
        except FileNotFoundError:
            return 0
        if self._epochs_seen.get(run.name, (0, 0))[0] != written:
            self._epochs_seen[run.name] = written, load_checkpoint(file).epoch
        return self._epochs_seen[run.name][1]

    def is_done(self, run: PlannedRun) -> bool:
        """Whether the last epoch is saved."""
        return (self.out / run.name / CHECKPOINT_NAME).exists() and self.epochs_done(run) >= self.epochs

    @property
    def epochs(self) -> int:
        """Of every run."""
        return self.study.recipe().epochs

    def _check_data(self) -> None:
        for run in {run.fraction: run for run in reversed(self.runs)}.values():
            settings = self.study.settings(run)
            try:
                shuffled_steps(len(settings.train_samples(self.index)), settings.loader.batch_size, World())
            except InputError as error:
                raise InputError(
                    f"{run.name}: {error.problem}",
                    remedy=error.remedy + (", or leave out --fractions" if run.fraction < 1 else ""),
                ) from None
        before = self._planned_before().get("data_fingerprint", self.index.fingerprint)
        if before != self.index.fingerprint:
            raise InputError(
                f"{self.out} holds a study of other data (shard set {str(before)[:12]}; {self.data} is "
                f"{self.index.fingerprint[:12]})",
                remedy="give the shards of before, or another --out",
            )

    def _check_networks(self) -> None:
        """Refuse widths that a network is not to be had in."""
        for run in {run.network: run for run in self.runs}.values():
            backbone = self.study.settings(run).backbone
            with torch.device("meta"):  # the shape of a network without its numbers
                build_backbone(backbone.name, backbone.width)

    def _check_run(self, run: PlannedRun) -> None:
        """Refuse to go on with a run that was started otherwise."""
        folder = self.out / run.name
        if not (folder / CHECKPOINT_NAME).exists():
            return
        remedy = f"repeat the study with the options of before, choose another --out, or remove {folder}"
        try:
            stored = read_object(folder / SETTINGS_NAME)
            before = RunSettings.model_validate(
                {name: value for name, value in stored.items() if name in RunSettings.model_fields}
            )
        except (InputError, ValidationError) as error:
            reason = error.problem if isinstance(error, InputError) else str(error).splitlines()[0]
            raise InputError(f"{run.name}: its settings cannot be read ({reason})", remedy=remedy) from None
        had, wanted = flat(before), flat(self.study.settings(run))
        for name in wanted:
            if name not in _FREE and had[name] != wanted[name]:
                raise InputError(f"{run.name} was started with {name} = {had[name]}, not {wanted[name]}", remedy=remedy)

    def _planned_before(self) -> dict[str, Any]:
        file = self.out / STUDY_NAME
        if not file.exists():
            return {}
        try:
            return read_object(file)
        except InputError as error:
            raise InputError(error.problem, remedy="remove it: the same command writes it anew") from None

    def _write_plan(self) -> None:
        """Write study.json, one process at a time."""
        plan = {**self.study.as_dict(), "data": str(self.data), "data_fingerprint": self.index.fingerprint}
        while (let_go := self.locks.claim(STUDY_NAME)) is None:
            time.sleep(_WAIT_S)
        try:
            if self._planned_before() != plan:
                write_text(self.out / STUDY_NAME, json.dumps(plan, indent=1) + "\n")
        finally:
            let_go()
