"""The whole story in one command: videos, shards, teachers, students with and without them, a report.

The runs go side by side, each a process of one share of the cores. Every part that is already there and whole is kept,
so a demo that was stopped goes on where it was.
"""

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from pclkd.pipeline.loader.order import shuffled_steps
from pclkd.pipeline.world import World
from pclkd.sharding.common.console import show_progress
from pclkd.sharding.common.errors import InputError
from pclkd.sharding.common.processes import available_cpus
from pclkd.sharding.packing.pack import pack_videos, plan_packing
from pclkd.sharding.shards.index import ShardIndex
from pclkd.sharding.shards.manifest import MANIFEST_NAME
from pclkd.sharding.synth.dataset import LISTS_FOLDER, VIDEOS_FOLDER, SynthSettings, render_dataset
from pclkd.training.loop.progress import say
from pclkd.training.report.comparison import METRICS, Measured
from pclkd.training.report.report import write_report
from pclkd.training.report.seeds import median_range
from pclkd.training.runs.checkpoint import CHECKPOINT_NAME, load_checkpoint
from pclkd.training.runs.run_folder import evaluation_path
from pclkd.training.settings import RunSettings, override, preset
from pclkd.training.study.execution import Job, run_jobs, train_kd

__all__ = ["run_demo"]

_RENDERED = (120, 160)  # frames of the embedded set: enough for what is stored of them
_FRAME_SIZE = (40, 54)  # stored frames: a little more than the demo preset's crop of 32 pixels
_LEAST_STEPS = 240  # a data set of a few videos gets more epochs, or nothing is learned
_LEAST_BATCHES = 3  # an epoch: and smaller batches
_MOST_EVALUATIONS = 25
_SIDE_BY_SIDE = 3  # runs of a seed that need nothing of each other


@dataclass(frozen=True)
class _Part:
    """One training run of the story: its seed is the repetition's, or the next one.

    Students start from other weights and see other clips than their teacher did, and what is without a teacher starts
    as they do: with the teacher's seed it would be the teacher's own run again.
    """

    name: str
    backbone: str
    teacher: str | None
    next_seed: bool = True

    def folder(self, out: Path, repetition: int) -> Path:
        return out / (f"{self.name}-{repetition + 1}" if repetition else self.name)


_PARTS = (
    _Part("teacher-r3d", "r3d", None, next_seed=False),
    _Part("student-r3d", "r3d", "teacher-r3d"),
    _Part("student-c3d", "c3d", "teacher-r3d"),
    _Part("no-teacher-r3d", "r3d", None),
    _Part("no-teacher-c3d", "c3d", None),
)


def run_demo(
    out: Path,
    *,
    videos: Path | None = None,
    splits: Path | None = None,
    split: int = 1,
    epochs: int | None = None,
    seed: int = 0,
    seeds: int = 1,
    at_once: int | None = None,
) -> Path:
    """Carry the demo out in the folder `out`.

    Args:
        out: folder for shards, runs, logs and report.
        videos: a UCF-101 folder; None renders the embedded data set.
        splits: the official lists of `videos`.
        split: official split.
        epochs: epochs a run; by default the demo preset's, and more where those are few steps.
        seed: of the first teacher; its students take the next one, and so on.
        seeds: repetitions.
        at_once: runs side by side; by default as many as there are cores and runs that do not wait for others.

    Returns:
        The report's page, index.html.

    Raises:
        InputError: only one of `videos` and `splits`, anything the parts object to, or a run that failed.
        StoppedError: a signal came; the same call goes on.
    """
    if (videos is None) != (splits is None):
        raise InputError(
            "the demo needs the videos and their lists, and got only one of them",
            remedy="give both UCF101=.../UCF-101 and SPLITS=.../ucfTrainTestlist, or neither",
        )
    began = time.monotonic()
    out.mkdir(parents=True, exist_ok=True)
    shards = _shards(out, videos, splits)
    changes = _changes(ShardIndex.open(shards), split, epochs)
    repetitions = {number: seed + 2 * number for number in range(seeds)}
    side_by_side = at_once or min(available_cpus(), _SIDE_BY_SIDE * seeds)
    say(f"{seeds * len(_PARTS)} runs ({', '.join(changes)}), {side_by_side} side by side; logs: {out / 'logs'}")
    outcomes = run_jobs(_jobs(out, shards, changes, repetitions), side_by_side, out / "logs")
    for part in _PARTS:
        folders = [part.folder(out, number) for number in repetitions]
        if measured := [folder for folder in folders if outcomes[_measuring(folder)] == "done"]:
            say(f"{part.name}: {_figures(measured)}")
    if open_ends := [name for name, outcome in outcomes.items() if outcome != "done"]:
        if len(open_ends) < len(outcomes):
            say(f"report without them: {write_report(out)}")
        raise InputError(
            f"not done: {', '.join(open_ends)}", remedy=f"see {out / 'logs'}; the same command goes on with the rest"
        )
    report = write_report(out)
    say(f"report: {report} ({(time.monotonic() - began) / 60:.1f} minutes)")
    return report


def _shards(out: Path, videos: Path | None, splits: Path | None) -> Path:
    """The packed data set, made where it is not there yet."""
    shards = out / "shards"
    if (shards / MANIFEST_NAME).exists():
        say(f"shards: {shards} is there already")
        return shards
    if videos is None or splits is None:
        videos, splits = out / "videos" / VIDEOS_FOLDER, out / "videos" / LISTS_FOLDER
        if not splits.exists():
            rendered = SynthSettings(height=_RENDERED[0], width=_RENDERED[1])
            total = rendered.classes * rendered.groups * rendered.clips
            with show_progress("rendering", total, "videos") as step:
                render_dataset(out / "videos", rendered, step=step)
    height, width = _FRAME_SIZE
    plan = plan_packing(videos, splits, height=height, width=width)
    with show_progress("packing", len(plan.dataset.videos), "videos") as step:
        manifest = pack_videos(plan, shards, step=step).manifest
    say(
        f"shards: {manifest.videos} videos packed, {len(manifest.quarantined)} quarantined, "
        f"{len(manifest.missing)} listed but not there"
    )
    return shards


def _changes(index: ShardIndex, split: int, epochs: int | None) -> list[str]:
    """What all runs set beside the preset, as --set takes it."""
    settings = preset("demo")
    videos = len(index.split_samples(split, "train"))
    batch = max(2, min(settings.loader.batch_size, videos // _LEAST_BATCHES))
    epochs = epochs or max(settings.epochs, -(-_LEAST_STEPS // shuffled_steps(videos, batch, World())))
    fading = epochs if settings.kd.fade_epochs else 0
    every = -(-epochs // _MOST_EVALUATIONS)
    return [
        *(f"split={split}", f"loader.batch_size={batch}", f"epochs={epochs}"),
        *(f"evaluation.every={every}", f"kd.fade_epochs={fading}"),
    ]


def _jobs(out: Path, shards: Path, changes: Sequence[str], repetitions: Mapping[int, int]) -> list[Job]:
    """Training and measuring of every part; nothing needs what is measured, so that it fills the gaps.

    Args:
        out: folder of the runs.
        shards: the data.
        changes: to the preset, the same for all.
        repetitions: number of each repetition -> seed of its teacher.
    """
    training, measuring = [], []
    for number, seed in repetitions.items():
        for part in _PARTS:
            folder = part.folder(out, number)
            own = [*changes, f"backbone.name={part.backbone}", f"seed={seed + part.next_seed}"]
            teachers = [teacher.folder(out, number) for teacher in _PARTS if teacher.name == part.teacher]
            how = ["distill", *(f"--teacher={teacher}" for teacher in teachers)] if teachers else ["pretrain"]
            where = [f"--data={shards}", f"--out={folder}", "--preset=demo", "--resume"]
            done = partial(_is_trained, folder, override(preset("demo"), own))
            needs = tuple(teacher.name for teacher in teachers)
            training.append(
                Job(folder.name, train_kd(*how, *where, *(f"--set={change}" for change in own)), needs, done)
            )
            protocols = [f"--protocol={metric.protocol}" for metric in METRICS]
            command = train_kd("evaluate", str(folder), f"--data={shards}", *protocols)
            measuring.append(Job(_measuring(folder), command, (folder.name,), partial(_is_measured, folder)))
    return training + measuring


def _measuring(folder: Path) -> str:
    """Name of the job that measures what stands in a folder."""
    return f"{folder.name}-measured"


def _is_trained(folder: Path, settings: RunSettings) -> bool:
    """Whether this very run has come to its end; one of other settings is resumed, and so refused."""
    if not (folder / CHECKPOINT_NAME).exists():
        return False
    checkpoint = load_checkpoint(folder)
    return checkpoint.epoch >= settings.epochs and checkpoint.settings == settings


def _is_measured(folder: Path) -> bool:
    trained = (folder / CHECKPOINT_NAME).stat().st_mtime
    files = [evaluation_path(folder, metric.protocol) for metric in METRICS]
    return all(file.exists() and file.stat().st_mtime > trained for file in files)


def _figures(folders: Sequence[Path]) -> str:
    """What a part's runs were measured at: with standard errors, or median and range over several."""
    found = [{m: json.loads(evaluation_path(folder, m.protocol).read_text()) for m in METRICS} for folder in folders]
    told = []
    for metric in METRICS:
        figure = metric.key.removeprefix("val/")
        values = [Measured.of(measured[metric], figure) for measured in found]
        told.append(f"{figure} {values[0] if len(values) == 1 else median_range(value.value for value in values)}")
    return ", ".join(told)
