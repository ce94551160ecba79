"""What a study will take: time from twenty steps of each network, disk from what they leave."""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pclkd.pipeline.loader.order import shuffled_steps
from pclkd.pipeline.pretext.base import TUPLE_VIEWS
from pclkd.pipeline.world import World
from pclkd.sharding.common.console import duration, text_columns
from pclkd.sharding.common.errors import InputError
from pclkd.training.runs.run_folder import read_run
from pclkd.training.study.execution import Job, run_jobs
from pclkd.training.study.plan import PlannedRun
from pclkd.training.study.study import StudyFolder

__all__ = ["Calibration", "calibrate", "plan_table", "seconds_of"]

_STEPS = 20
_FORWARD_SHARE = 1 / 3  # of a step's arithmetic: the backward pass takes about twice the forward pass


@dataclass(frozen=True)
class Calibration:
    """What a network was measured to do.

    Attributes:
        clips_per_s: of training, over the second ten of twenty steps.
        bytes: of the folder that they left.
    """

    clips_per_s: float
    bytes: int


def calibrate(folder: StudyFolder, at_once: int) -> dict[str, Calibration]:
    """Train each network of the plan for twenty steps, `at_once` side by side as the study will.

    Raises:
        InputError: one of them failed, and why.
        StoppedError: a signal came.
    """
    alone = {run.network: run for run in folder.runs if run.kind != "student"}
    how = ("--max-steps", str(_STEPS), "--epochs", str(_STEPS), "--set=evaluation.every=0", "--set=track=none")
    with tempfile.TemporaryDirectory(prefix="pclkd-calibration-") as temporary:
        place = Path(temporary)
        jobs = [
            Job(name, folder.command(run, place / name, *how, f"--set=log_every={_STEPS // 2}", "--set=fraction=1"))
            for name, run in alone.items()
        ]
        failed = [name for name, outcome in run_jobs(jobs, at_once, place).items() if outcome != "done"]
        if failed:
            last = (place / f"{failed[0]}.log").read_text(errors="replace").strip().splitlines()[-1:]
            raise InputError(f"{failed[0]} did not train ({' '.join(last)})", remedy="change the settings, or --data")
        return {
            name: Calibration(
                clips_per_s=read_run(place / name).steps[-1]["throughput/clips_per_s"],
                bytes=sum(file.stat().st_size for file in (place / name).rglob("*") if file.is_file()),
            )
            for name in alone
        }


def seconds_of(folder: StudyFolder, run: PlannedRun, measured: dict[str, Calibration]) -> float:
    """Time of a whole run with its evaluations, in seconds; start-up is not counted."""
    settings = folder.study.settings(run)
    steps = shuffled_steps(len(settings.train_samples(folder.index)), settings.loader.batch_size, World())
    clips = settings.epochs * steps * settings.loader.batch_size * TUPLE_VIEWS
    rate = measured[run.network].clips_per_s
    seconds = clips / rate
    asked = 1 / settings.kd.teacher_every
    if settings.kd.fade_epochs:
        asked *= min(1.0, settings.kd.fade_epochs / settings.epochs)
    teachers = [other.network for other in folder.runs if other.name in run.teachers]
    teachers += [run.network] if settings.kd.self_teacher else []
    for teacher in teachers:
        seconds += asked * clips * _FORWARD_SHARE / measured[teacher].clips_per_s
    measuring = settings.evaluation
    if measuring.every:
        last = settings.epochs
        asked_at = [epoch for epoch in range(last + 1) if epoch % measuring.every == 0 or epoch == last]
        described_at = [epoch for epoch in asked_at if epoch % measuring.features_every == 0 or epoch == last]
        tests = len(folder.index.split_samples(settings.split, "test"))
        trains = len(folder.index.split_samples(settings.split, "train"))
        shown = len(described_at) * measuring.clips * (trains + tests)
        shown += len(asked_at) * measuring.pretext_passes * TUPLE_VIEWS * tests
        seconds += shown * _FORWARD_SHARE / rate
    return seconds


def plan_table(folder: StudyFolder, runs: Sequence[PlannedRun], at_once: int, finetune: int = 0) -> str:
    """The plan, a line a run: where it stands, and time and disk that it still takes or took.

    Args:
        folder: the study.
        runs: of it.
        at_once: runs side by side.
        finetune: epochs of fine-tuning of each run.
    """
    measured = calibrate(folder, at_once)
    left, disk = 0.0, 0
    rows = [["run", "state", "left", "disk"]]
    for run in runs:
        epochs, done = folder.epochs, folder.epochs_done(run)
        settings = folder.study.settings(run)
        seconds = seconds_of(folder, run, measured) * (1 - done / max(1, epochs))
        if finetune and not folder.is_fine_tuned(run, finetune):
            clips = finetune * len(folder.index.split_samples(settings.split, "train"))
            seconds += clips / measured[run.network].clips_per_s
        copies = 1 + settings.checkpoint.keep + bool(settings.checkpoint.best)
        size = copies * measured[run.network].bytes
        left, disk = left + seconds, disk + size
        holder = folder.locks.holder(run.name)
        state = f"{done}/{epochs} epochs" + (f", {holder}" if holder else "")
        rows.append([run.name, state, duration(seconds), f"{size / 1e6:.1f} MB"])
    total = f"{len(runs)} runs: about {duration(left / at_once)} left, {at_once} at a time; {disk / 1e6:.1f} MB"
    return f"{text_columns(rows)}\n\n{total}"
