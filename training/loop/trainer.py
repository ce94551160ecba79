"""The training loop. It knows batches and named losses, and nothing of what is learned.

Nothing here waits for the device between two lines of the log: the figures of a step are read when the next one has
been given to the device, and so are the answers of the other processes to whether the run shall stop. So a loss that is
not finite is noticed a step late. Before a checkpoint all figures are read, on all processes.
"""

import math
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from itertools import islice
from typing import Any

import torch

from pclkd.pipeline.batch import ClipBatch
from pclkd.pipeline.config import PixelPath
from pclkd.pipeline.loader.loader import ClipLoader
from pclkd.sharding.common.settings import change
from pclkd.training.compute import distributed
from pclkd.training.compute.average import WeightAverage
from pclkd.training.compute.fused_optimizer import load_optimizer
from pclkd.training.compute.neighbours import Neighbours
from pclkd.training.compute.precision import Precision
from pclkd.training.compute.schedules import Schedule
from pclkd.training.evaluation.evaluator import Evaluator
from pclkd.training.loop.build import build_step
from pclkd.training.loop.figures import DeferredFigures, RunPosition, StepFigures
from pclkd.training.loop.guards import non_finite, report_non_finite, signs_of_collapse
from pclkd.training.loop.meter import LoaderMeter
from pclkd.training.loop.metrics_log import MetricsLog, open_log
from pclkd.training.loop.plan import RunPlan
from pclkd.training.loop.preemption import PreemptedError, StopRequest, listening
from pclkd.training.loop.progress import TrainingProgress, say
from pclkd.training.models.pcl_model import PclModel
from pclkd.training.runs.answers import append_answers
from pclkd.training.runs.checkpoint import Checkpoint, restoring
from pclkd.training.runs.checkpoint_writer import CheckpointWriter
from pclkd.training.settings import flat

__all__ = ["train"]


def train(plan: RunPlan) -> None:
    """Carry a run out, from its start or from its checkpoint; returns when it is done or `max_steps` are.

    Raises:
        InputError: this machine cannot compute what the settings ask for, or a loss is not finite.
        PreemptedError: SIGTERM or SIGUSR1 came; the run is saved.
    """
    device = distributed.choose_device(plan.world)
    precision = Precision(plan.settings.precision, device)
    plan = plan.with_cache(device)
    with distributed.joined(plan.world, device), plan.loader(device) as loader, listening() as stop:
        _same_pixels(plan, loader)
        if plan.resumed is not None:
            with restoring(plan.folder):
                loader.load_state_dict(plan.resumed.loader)
        loader.begin()  # while convolutions are checked and networks are compiled
        _Trainer(plan, loader, device, precision, stop).run()


def _same_pixels(plan: RunPlan, loader: ClipLoader) -> None:
    """Frames become clips in one way on all ranks and in all parts of a run: other ways give slightly other pixels."""
    asked = plan.settings.loader.path
    if plan.resumed is not None:
        asked = asked.over(plan.resumed.path)
    said = distributed.agreed("how frames become clips", lambda: "/".join(loader.calibrate(asked).path))
    decode, operators = said.split("/")
    loader.calibrate(PixelPath(decode, operators))  # type: ignore[arg-type]


class _Trainer:
    def __init__(
        self, plan: RunPlan, loader: ClipLoader, device: torch.device, precision: Precision, stop: StopRequest
    ) -> None:
        self._plan, self._loader, self._device, self._stop = plan, loader, device, stop
        self._settings = plan.settings
        self._model = plan.student()
        shape = loader.clips_shape
        moments = loader.moment_shapes
        self._step = build_step(self._model, plan.objective, shape, precision, plan.settings, plan.world, moments)
        self._schedule = Schedule(self._step.optimizer, plan.settings.optimizer, plan.settings.epochs, self._steps)
        decay = plan.settings.optimizer.average_decay if plan.world.is_first else 0
        self._average = WeightAverage[PclModel](self._model, decay) if decay else None
        self._at, self._whole = RunPosition(), LoaderMeter(loader, device)  # the latter of the epoch under way
        self._unread = DeferredFigures()
        self._log: MetricsLog | None = None  # of the first process
        self._stopped = False
        # On a GPU the threads have little to do; processes of one job are no neighbours.
        self._neighbours = Neighbours() if device.type == "cpu" and plan.world.size == 1 else None
        best = plan.resumed.best if plan.resumed is not None else None
        self._writer = CheckpointWriter(plan.folder, plan.settings.checkpoint, best)
        if plan.resumed is not None:
            with restoring(plan.folder):
                self._restore(plan.resumed)

    @property
    def _shown(self) -> PclModel:
        """What is measured: the average of the weights where one is kept."""
        return self._model if self._average is None else self._average.network

    @property
    def _steps(self) -> int:
        """Updates an epoch; batches that do not fill one are left out."""
        return len(self._loader) // self._settings.optimizer.accumulate

    def run(self) -> None:
        plan, settings = self._plan, self._settings
        first = plan.world.is_first
        self._log = open_log(plan, self._step.objective.legend(), self._at.step) if first else None
        for teacher in plan.teachers if first else ():
            if teacher.seen:
                told = f"was trained on {teacher.seen} test videos of split {settings.split}"
                say(f"warning: the teacher {teacher.name} {told}: it may pass on what the student shall not have seen")
        progress = TrainingProgress(plan.folder.name, settings.epochs, self._steps, self._at.step, quiet=not first)
        evaluator = (
            Evaluator(
                plan.index,
                change(settings, self._loader.calibrate().path.changes),
                self._device,
                settings.evaluation.clips,
            )
            if first and settings.evaluation.every
            else None
        )
        try:
            with progress.showing():
                if self._at.step == 0:
                    self._fill()
                    self._log_epoch(evaluator, {})
                while self._at.epoch < settings.epochs:
                    speed = self._one_epoch(progress)
                    if speed is None:
                        break
                    self._log_epoch(evaluator, speed)
                    if self._stopped:
                        break
            self._stop.settle()
            if self._at.epoch_step:
                self._save_within_epoch()
            self._writer.wait()
            if self._stopped:
                raise PreemptedError(self._at.step)
        finally:
            self._writer.close()
            if evaluator is not None:
                evaluator.close()
            if self._log is not None:
                self._log.close()

    def _fill(self) -> None:
        """Let the objective see the training videos, where it starts with them."""
        objective, began = self._step.objective, time.perf_counter()
        if not objective.has_fresh_banks:
            return
        with self._plan.each_video_once(self._device) as loader, self._step.precision.autocast():
            loader.calibrate(self._loader.calibrate().path)
            told = objective.fill(loader.epoch(self._settings.epochs))  # tuples that no step meets again
        if self._plan.world.is_first:
            say(f"{told} ({time.perf_counter() - began:.0f} s)")

    def _one_epoch(self, progress: TrainingProgress) -> dict[str, float | str] | None:
        """Train to the end of the epoch; its throughput, or None where `max_steps` stopped it."""
        at, meter = self._at, LoaderMeter(self._loader, self._device)
        whole = self._whole = LoaderMeter(self._loader, self._device, at.damage)
        self._step.objective.train()
        if self._must_stop(wait=True):
            return None
        for batches in self._updates():
            if self._log is not None and at.epoch_step == 0:
                self._log.clips(batches[0], at.step, residual=self._settings.loader.modality == "residual")
            lr = self._schedule.before_step(at.epoch, at.epoch_step)
            losses = self._step(*batches)
            if self._average is not None:
                self._average.update()
            at.step += 1
            at.epoch_step += 1
            for told in self._step.objective.news() if self._log is not None else ():
                say(f"warning: step {at.step}: {told}")
            progress.step(at.epoch, at.step, meter.report(), self._plan.world.size, whole.quarantined)
            line: dict[str, Any] | None = None
            if at.step % self._settings.log_every == 0:
                speed = {**meter.figures(self._plan.world.size), **whole.damage()}  # on every rank: it gathers
                line = {"lr": lr, **speed}
                meter = LoaderMeter(self._loader, self._device)
            self._unread.send(at.step, losses, batches, line)
            self._note(self._unread.read(leave=1))
            every = self._settings.checkpoint.every_steps
            if every and at.step % every == 0:
                self._save_within_epoch()
            if self._must_stop():
                return None
        return {**whole.figures(self._plan.world.size), **whole.damage()}

    def _note(self, steps: Iterable[StepFigures]) -> None:
        """Take in what is known of finished steps by now."""
        for step in steps:
            if bad := non_finite(step.figures):
                report_non_finite(self._plan, bad, step)
            self._at.add(step.figures)
            if self._log is not None and step.line is not None:
                place = {"epoch": step.batches[0].epoch, "step": step.step}
                self._log.write({"kind": "step", **place, **step.figures, **step.line}, step.figures)

    def _must_stop(self, *, wait: bool = False) -> bool:
        """Whether `max_steps` are done or a signal came; an epoch without a further update is closed all the same.

        Several processes act on a signal one step after it, unless they `wait` for each other.
        """
        limit = self._plan.max_steps
        self._stopped = self._stopped or self._stop.agreed(self._device, wait=wait)
        more = self._loader.steps_left >= self._settings.optimizer.accumulate
        return more and (self._stopped or (limit is not None and self._at.step >= limit))

    def _updates(self) -> Iterator[tuple[ClipBatch, ...]]:
        """The batches of each update that is left of the epoch."""
        size = self._settings.optimizer.accumulate
        self._loader.set_epoch(self._at.epoch)  # a resumed loader keeps its place within the epoch
        batches = iter(self._loader)
        while len(update := tuple(islice(batches, size))) == size:
            yield update

    def _log_epoch(self, evaluator: Evaluator | None, speed: Mapping[str, float | str]) -> None:
        """Close the epoch (or record the untrained network): averages, evaluation, schedule, checkpoint."""
        self._note(self._unread.read())
        at, settings, log = self._at, self._settings, self._log
        record: dict[str, Any] = {}
        if at.epoch_step:
            means = at.means(self._device)
            record = {**{f"train/{name}": mean for name, mean in means.items()}, **speed}
            if self._step.skipped:
                record["train/skipped_updates"] = self._step.skipped
            self._warn(means, at.epoch_step)
            self._advance(means.get("loss", math.inf))
        finished = self._at.epoch
        asked, last = settings.evaluation, finished == settings.epochs
        if evaluator is not None and (finished % asked.every == 0 or last):
            measured = evaluator.all(self._shown, features=finished % asked.features_every == 0 or last)
            record |= measured.figures
            append_answers(self._plan.folder, finished, at.step, measured.answers)
        if log is not None and evaluator is not None and last:
            videos = evaluator.features(self._shown, "test", pictures=True)
            figures = {name: value for name, value in record.items() if name.startswith(("val/", "train/"))}
            log.summary(flat(settings), figures, videos, self._plan.index.classes)
        if log is not None:
            log.write({"kind": "epoch", "epoch": finished, "step": self._at.step, **record})
            self._save(self._at, record)

    def _advance(self, loss: float) -> None:
        self._schedule.after_epoch(loss)
        self._at = RunPosition(epoch=self._at.epoch + 1, step=self._at.step)

    def _warn(self, means: Mapping[str, float], steps: int) -> None:
        if self._plan.world.is_first:
            classes = 0 if "pretext_top1_pct" not in means else self._model.pretext_classes
            for warning in signs_of_collapse(means, classes, steps, self._step.global_batch, self._settings):
                say(f"warning: epoch {self._at.epoch + 1}: {warning}")
        if self._neighbours is not None and (crowd := self._neighbours.warning(torch.get_num_threads())):
            say(f"warning: epoch {self._at.epoch + 1}: {crowd}")

    def _save_within_epoch(self) -> None:
        """Save once every process has read all its figures, and found them finite or stopped."""
        self._note(self._unread.read())
        # A process that stopped does not come here: the others wait.
        at = replace(self._at, sums=self._at.shared(self._device), damage=self._whole.damage())
        if self._plan.world.is_first:
            self._save(at)

    def _save(self, at: RunPosition, measured: dict[str, Any] | None = None) -> None:
        plan = self._plan
        self._writer.save(
            Checkpoint(
                settings=plan.settings,
                fingerprint=plan.index.fingerprint,
                rows=len(plan.samples),
                processes=plan.world.size,
                loader=self._loader.state_dict(),
                epoch=at.epoch,
                epoch_step=at.epoch_step,
                step=at.step,
                epoch_sums=at.sums,
                best=None,
                model=self._model.state_dict(),
                memory=self._step.objective.memory_state(),
                optimizer=self._step.optimizer.state_dict(),
                schedule=self._schedule.state_dict(),
                scaler=self._step.precision.scaler.state_dict(),
                average=self._average.state_dict() if self._average is not None else {},
                skipped=self._step.skipped,
                damage=at.damage,
                **self._loader.calibrate().path._asdict(),
            ),
            measured,
        )

    def _restore(self, checkpoint: Checkpoint) -> None:
        load_optimizer(self._step.optimizer, checkpoint.optimizer)
        self._schedule.load_state_dict(checkpoint.schedule)
        if self._average is not None:
            self._average.load_state_dict(checkpoint.average)
        if checkpoint.scaler:  # there is none of bf16 and fp32
            self._step.precision.scaler.load_state_dict(checkpoint.scaler)
        self._step.skipped = checkpoint.skipped
        place = checkpoint.epoch, checkpoint.epoch_step, checkpoint.step
        self._at = RunPosition(*place, checkpoint.epoch_sums, checkpoint.damage)
