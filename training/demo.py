"""The whole story in one command: videos, shards, a teacher, students with and without it, a report.

Every part that is already there and whole is kept, so a demo that was stopped goes on where it was.
"""

import json
import time
from dataclasses import dataclass
from pathlib import Path

from pclkd.pipeline.loader.order import shuffled_steps
from pclkd.pipeline.world import World
from pclkd.sharding.common.console import show_progress
from pclkd.sharding.common.errors import InputError
from pclkd.sharding.packing.pack import pack_videos, plan_packing
from pclkd.sharding.shards.index import ShardIndex
from pclkd.sharding.shards.manifest import MANIFEST_NAME
from pclkd.sharding.synth.dataset import LISTS_FOLDER, VIDEOS_FOLDER, SynthSettings, render_dataset
from pclkd.training.evaluation.evaluate import evaluate_run
from pclkd.training.loop.plan import plan_run
from pclkd.training.loop.progress import say
from pclkd.training.loop.trainer import train
from pclkd.training.report.comparison import METRICS, Measured
from pclkd.training.report.report import write_report
from pclkd.training.runs.checkpoint import CHECKPOINT_NAME, load_checkpoint
from pclkd.training.runs.run_folder import evaluation_path
from pclkd.training.settings import RunSettings, override, preset

__all__ = ["run_demo"]

_RENDERED = (120, 160)  # frames of the embedded set: enough for what is stored of them
_FRAME_SIZE = (40, 54)  # stored frames: a little more than the demo preset's crop of 32 pixels
_LEAST_STEPS = 560  # a data set of a few videos gets more epochs, or nothing is learned
_MOST_EVALUATIONS = 25


@dataclass(frozen=True)
class _Part:
    """One training run of the story."""

    name: str
    backbone: str
    teacher: str | None
    seed: int


def _parts(seed: int) -> tuple[_Part, ...]:
    # The students start from other weights and see other clips than the teacher did: with its seed the run without a
    # teacher would be the teacher's own run again.
    return (
        _Part("teacher-r3d", "r3d", None, seed),
        _Part("student-r3d", "r3d", "teacher-r3d", seed + 1),
        _Part("student-c3d", "c3d", "teacher-r3d", seed + 1),
        _Part("no-teacher-r3d", "r3d", None, seed + 1),
    )


def run_demo(
    out: Path,
    *,
    videos: Path | None = None,
    splits: Path | None = None,
    split: int = 1,
    epochs: int | None = None,
    seed: int = 0,
) -> Path:
    """Carry the demo out in the folder `out`.

    Args:
        out: folder for shards, runs and report.
        videos: a UCF-101 folder; None renders the embedded data set.
        splits: the official lists of `videos`.
        split: official split.
        epochs: epochs a run; by default the demo preset's, and more where those are few steps.
        seed: of the teacher; the students take the next one.

    Returns:
        The report's page, index.html.

    Raises:
        InputError: only one of `videos` and `splits`, or anything the parts object to.
    """
    if (videos is None) != (splits is None):
        raise InputError(
            "the demo needs the videos and their lists, and got only one of them",
            remedy="give both UCF101=.../UCF-101 and SPLITS=.../ucfTrainTestlist, or neither",
        )
    began = time.monotonic()
    out.mkdir(parents=True, exist_ok=True)
    shards = _shards(out, videos, splits)
    index = ShardIndex.open(shards)
    settings = _settings(index, split, epochs)
    for part in _parts(seed):
        say(f"--- {part.name}: {_describe(part)}")
        _train(out, shards, part, settings)
    for part in _parts(seed):
        figures = _evaluate(out / part.name, shards)
        say(f"{part.name}: " + ", ".join(f"{name} {value}" for name, value in figures.items()))
    report = write_report(out)
    say(f"report: {report} ({(time.monotonic() - began) / 60:.1f} minutes)")
    return report


def _describe(part: _Part) -> str:
    how = f"PCL and distillation from {part.teacher}" if part.teacher else "PCL"
    return f"{part.backbone} by {how}, seed {part.seed}"


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


def _settings(index: ShardIndex, split: int, epochs: int | None) -> RunSettings:
    settings = override(preset("demo"), [f"split={split}"])
    if epochs is None:
        videos = len(index.split_samples(split, "train"))
        steps = shuffled_steps(videos, settings.loader.batch_size, World())
        epochs = max(settings.epochs, -(-_LEAST_STEPS // steps))
    every = -(-epochs // _MOST_EVALUATIONS)
    return override(settings, [f"epochs={epochs}", f"evaluation.every={every}"])


def _train(out: Path, shards: Path, part: _Part, settings: RunSettings) -> None:
    folder = out / part.name
    settings = override(settings, [f"backbone.name={part.backbone}", f"seed={part.seed}"])
    if (folder / CHECKPOINT_NAME).exists() and load_checkpoint(folder).epoch >= settings.epochs:
        say(f"{part.name}: trained already")
        return
    teachers = [out / part.teacher] if part.teacher else []
    train(plan_run(folder, shards, settings, teachers=teachers, resume=True))


def _evaluate(folder: Path, shards: Path) -> dict[str, Measured]:
    figures: dict[str, Measured] = {}
    for metric in METRICS:
        file = evaluation_path(folder, metric.protocol)
        fresh = file.exists() and file.stat().st_mtime > (folder / CHECKPOINT_NAME).stat().st_mtime
        result = json.loads(file.read_text()) if fresh else evaluate_run(folder, shards, metric.protocol)
        figure = metric.key.removeprefix("val/")
        figures[figure] = Measured.of(result, figure)
    return figures
