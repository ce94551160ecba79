"""The training loop. It knows batches and named losses, and nothing of what is learned."""

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import torch

from pclkd.pipeline.batch import ClipBatch
from pclkd.pipeline.loader import ClipLoader
from pclkd.sharding.atomic import write_text
from pclkd.sharding.errors import InputError
from pclkd.training import distributed
from pclkd.training.checkpoint import CHECKPOINT_NAME, Checkpoint, save_checkpoint
from pclkd.training.collective import gather_rows
from pclkd.training.environment import describe_environment
from pclkd.training.evaluate import Evaluator
from pclkd.training.loader_meter import LoaderMeter
from pclkd.training.metrics_log import MetricsLog
from pclkd.training.precision import Precision, check_conv3d
from pclkd.training.progress import TrainingProgress
from pclkd.training.run import RunPlan
from pclkd.training.schedules import Schedule
from pclkd.training.step import TrainStep

__all__ = ["train"]


def train(plan: RunPlan) -> None:
    """Carry a run out, from its start or from its checkpoint; returns when it is done or `max_steps` are.

    Raises:
        InputError: this machine cannot compute what the settings ask for.
    """
    device = distributed.choose_device(plan.world)
    precision = Precision(plan.settings.precision, device)
    check_conv3d(precision)
    with distributed.joined(plan.world, device), plan.loader(device) as loader:
        _Trainer(plan, loader, device, precision).run()


@dataclass
class _Position:
    """Where a run stands."""

    epoch: int = 0
    epoch_step: int = 0
    step: int = 0
    sums: dict[str, float] = field(default_factory=dict)


class _Trainer:
    def __init__(self, plan: RunPlan, loader: ClipLoader, device: torch.device, precision: Precision) -> None:
        self._plan, self._loader, self._device = plan, loader, device
        self._settings = plan.settings
        self._model = plan.student().to(device)
        if device.type == "cuda":
            self._model = self._model.to(memory_format=torch.channels_last_3d)
        student = distributed.wrapped(self._model, plan.world, device)
        self._objective = plan.objective(student, device)
        how = plan.settings.optimizer
        global_batch = plan.settings.loader.batch_size * plan.world.size * how.accumulate
        self._step = TrainStep(self._objective, student, how, precision, global_batch)
        self._schedule = Schedule(self._step.optimizer, how, plan.settings.epochs, self._steps)
        self._at = _Position()
        if plan.resumed is not None:
            self._restore(plan.resumed)

    @property
    def _steps(self) -> int:
        """Updates an epoch; batches that do not fill one are left out."""
        return len(self._loader) // self._settings.optimizer.accumulate

    def run(self) -> None:
        plan, settings = self._plan, self._settings
        first = plan.world.is_first
        log = self._open_folder() if first else None
        progress = TrainingProgress(plan.folder.name, settings.epochs, self._steps, self._at.step, quiet=not first)
        evaluator = (
            Evaluator(plan.index, settings, self._device, settings.evaluation.clips)
            if first and settings.evaluation.every
            else None
        )
        try:
            with progress.showing():
                if self._at.step == 0:
                    self._log_epoch(log, evaluator, {})
                while self._at.epoch < settings.epochs:
                    speed = self._one_epoch(log, progress)
                    if speed is None:
                        break
                    self._log_epoch(log, evaluator, speed)
            if first and self._at.epoch_step:
                self._save()
        finally:
            if evaluator is not None:
                evaluator.close()
            if log is not None:
                log.close()

    def _one_epoch(self, log: MetricsLog | None, progress: TrainingProgress) -> dict[str, float | str] | None:
        """Train to the end of the epoch; its throughput, or None where `max_steps` stopped it."""
        at, meter = self._at, LoaderMeter(self._loader, self._device)
        whole = LoaderMeter(self._loader, self._device)
        self._objective.train()
        if self._must_stop():
            return None
        for batches in self._updates():
            lr = self._schedule.before_step(at.epoch, at.epoch_step)
            losses = self._step(*batches)
            at.step += 1
            at.epoch_step += 1
            # One copy to the host for all figures: each would stop the GPU once more.
            figures = dict(zip(losses, torch.stack(list(losses.values())).tolist(), strict=True))
            _refuse_non_finite(figures, at.step)
            for name, value in figures.items():
                at.sums[name] = at.sums.get(name, 0.0) + value
            progress.step(at.epoch, at.step, meter.report(), self._plan.world.size, whole.quarantined)
            if at.step % self._settings.log_every == 0:
                speed = {**meter.figures(self._plan.world.size), **whole.damage()}  # on every rank: it gathers
                if log is not None:
                    log.write({"kind": "step", "epoch": at.epoch, "step": at.step, **figures, "lr": lr, **speed})
                meter = LoaderMeter(self._loader, self._device)
            if self._must_stop():
                return None
        return {**whole.figures(self._plan.world.size), **whole.damage()}

    def _must_stop(self) -> bool:
        """Whether `max_steps` are done; an epoch without a further update is closed all the same."""
        limit = self._plan.max_steps
        more = self._loader.steps_left >= self._settings.optimizer.accumulate
        return limit is not None and self._at.step >= limit and more

    def _updates(self) -> Iterator[tuple[ClipBatch, ...]]:
        """The batches of each update that is left of the epoch."""
        size = self._settings.optimizer.accumulate
        self._loader.set_epoch(self._at.epoch)  # a resumed loader keeps its place within the epoch
        batches = iter(self._loader)
        while len(update := tuple(islice(batches, size))) == size:
            yield update

    def _log_epoch(self, log: MetricsLog | None, evaluator: Evaluator | None, speed: Mapping[str, float | str]) -> None:
        """Close the epoch (or record the untrained network): averages, evaluation, schedule, checkpoint."""
        at, settings = self._at, self._settings
        record: dict[str, Any] = {}
        if at.epoch_step:
            # The mean over all ranks, so that every rank's schedule takes the same decision.
            sums = gather_rows(torch.tensor([list(at.sums.values())], dtype=torch.float64, device=self._device)).mean(0)
            record = {
                f"train/{name}": total / at.epoch_step for name, total in zip(at.sums, sums.tolist(), strict=True)
            }
            self._advance(record["train/loss"])
            record |= speed
        finished = self._at.epoch
        if evaluator is not None and (finished % settings.evaluation.every == 0 or finished == settings.epochs):
            record |= evaluator.all(self._model)
        if log is not None:
            log.write({"kind": "epoch", "epoch": finished, "step": self._at.step, **record})
            self._save()

    def _advance(self, loss: float) -> None:
        self._schedule.after_epoch(loss)
        self._at = _Position(epoch=self._at.epoch + 1, step=self._at.step)

    def _open_folder(self) -> MetricsLog:
        folder, plan = self._plan.folder, self._plan
        folder.mkdir(parents=True, exist_ok=True)
        teachers = [str(teacher.path) for teacher in plan.teachers]
        settings = {
            **self._settings.model_dump(mode="json"),
            "teacher": teachers[0] if teachers else None,
            "teachers": teachers,
            "data": str(plan.index.root),
        }
        write_text(folder / "settings.json", json.dumps(settings, indent=2) + "\n")
        write_text(folder / "env.json", json.dumps(describe_environment(), indent=2) + "\n")
        if plan.resumed is None:
            (folder / "metrics.jsonl").unlink(missing_ok=True)  # of a sitting that was killed before it saved anything
        return MetricsLog(folder, self._at.step)

    def _save(self) -> None:
        at, plan = self._at, self._plan
        save_checkpoint(
            plan.folder / CHECKPOINT_NAME,
            Checkpoint(
                settings=plan.settings,
                fingerprint=plan.index.fingerprint,
                rows=len(plan.samples),
                processes=plan.world.size,
                loader=self._loader.state_dict(),
                epoch=at.epoch,
                epoch_step=at.epoch_step,
                step=at.step,
                epoch_sums=dict(at.sums),
                model=self._model.state_dict(),
                memory=self._objective.memory_state(),
                optimizer=self._step.optimizer.state_dict(),
                schedule=self._schedule.state_dict(),
                scaler=self._step.precision.scaler.state_dict(),
            ),
        )

    def _restore(self, checkpoint: Checkpoint) -> None:
        self._step.optimizer.load_state_dict(checkpoint.optimizer)
        self._schedule.load_state_dict(checkpoint.schedule)
        self._step.precision.scaler.load_state_dict(checkpoint.scaler)
        self._loader.load_state_dict(checkpoint.loader)
        self._at = _Position(checkpoint.epoch, checkpoint.epoch_step, checkpoint.step, dict(checkpoint.epoch_sums))


def _refuse_non_finite(figures: Mapping[str, float], step: int) -> None:
    bad = [name for name, value in figures.items() if not math.isfinite(value)]
    if bad:
        raise InputError(
            f"step {step}: {', '.join(f'{name} is {figures[name]}' for name in bad)}",
            remedy="lower --set optimizer.lr, or use --set precision=fp32; the last checkpoint is untouched",
        )
