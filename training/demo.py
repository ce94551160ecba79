"""The whole story in one command: videos, shards, a small study of teacher and students, its report.

Every part that is already there and whole is kept, so a demo that was stopped goes on where it was.
"""

import time
from collections.abc import Sequence
from pathlib import Path

from pclkd.pipeline.loader.order import shuffled_steps
from pclkd.pipeline.world import World
from pclkd.sharding.common.console import show_progress, text_columns
from pclkd.sharding.common.errors import InputError
from pclkd.sharding.common.processes import available_cpus
from pclkd.sharding.packing.pack import pack_videos, plan_packing
from pclkd.sharding.shards.index import ShardIndex
from pclkd.sharding.shards.manifest import MANIFEST_NAME
from pclkd.sharding.synth.dataset import LISTS_FOLDER, VIDEOS_FOLDER, SynthSettings, render_dataset
from pclkd.training.findings.claims import Findings
from pclkd.training.findings.records import read_study
from pclkd.training.findings.report import write_study_report
from pclkd.training.findings.standing import standing_table
from pclkd.training.loop.progress import say
from pclkd.training.settings import preset
from pclkd.training.study.execution import Job, train_kd
from pclkd.training.study.plan import Study
from pclkd.training.study.study import StudyFolder

__all__ = ["run_demo"]

_RENDERED = (120, 160)  # frames of the embedded set: enough for what is stored of them
_FRAME_SIZE = (40, 54)  # stored frames: a little more than the demo preset's crop of 32 pixels
_PAIRS = (("r3d", "c3d"), ("r3d", "r3d"))  # C3D first: what takes longest must not come last and alone
_LABELLED_BATCH = 16  # at most, of the supervised control
_LEAST_STEPS = 240  # a data set of a few videos gets more epochs, or nothing is learned
_LEAST_BATCHES = 3  # an epoch: and smaller batches
_LEAST_WARMUP = 24  # steps, as the preset has on the embedded set: its epochs may be few steps of another
_MOST_EVALUATIONS = 12
_SIDE_BY_SIDE = 3  # runs of a repetition that need nothing of each other


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
        InputError: only one of `videos` and `splits`, a split without training or test videos, anything the parts
            object to, or a run that failed.
        StoppedError: a signal came; the same call goes on.
    """
    if (videos is None) != (splits is None):
        raise InputError(
            "the demo needs the videos and their lists, and got only one of them",
            remedy="give both, --videos .../UCF-101 --splits .../ucfTrainTestlist (make: UCF101=, SPLITS=), or neither",
        )
    began = time.monotonic()
    out.mkdir(parents=True, exist_ok=True)
    shards = _shards(out, videos, splits)
    index = ShardIndex.open(shards)
    _refuse_empty_parts(index, split)
    changes = _changes(index, split, epochs, seed)
    study = Study("demo", tuple(changes), _PAIRS, seeds, fractions=(1.0,), terms=("recipe",))
    folder = StudyFolder(study, shards, out)
    side_by_side = at_once or min(available_cpus(), _SIDE_BY_SIDE * seeds)
    say(f"{len(folder.runs)} runs ({', '.join(changes)}), {side_by_side} side by side; logs: {out / 'logs'}")
    sets = [f"--set={change}" for change in (*changes, "backbone.name=r3d")]
    batch = f"--batch-size={min(_LABELLED_BATCH, study.recipe().loader.batch_size)}"
    controls = train_kd("controls", f"--data={shards}", f"--out={out}", "--preset=demo", *sets, batch)
    outcomes = folder.carry_out(folder.runs, side_by_side, [Job("controls", controls)])
    if not any(outcomes[run.name] == "done" for run in folder.runs):
        raise InputError("no run was finished", remedy=f"see {out / 'logs'}; the same command goes on")
    report = write_study_report(out)
    for line in text_columns(standing_table(Findings(read_study(out))).rows).splitlines():
        say(line)
    say(f"report: {report} ({(time.monotonic() - began) / 60:.1f} minutes)")
    if open_ends := [name for name, outcome in outcomes.items() if outcome != "done"]:
        raise InputError(
            f"not done: {', '.join(open_ends)}", remedy=f"see {out / 'logs'}; the same command goes on with the rest"
        )
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
    # Shards hold every split; only the one that is asked for needs both parts.
    plan = plan_packing(videos, splits, allow_empty_split=True, height=height, width=width)
    with show_progress("packing", len(plan.dataset.videos), "videos") as step:
        manifest = pack_videos(plan, shards, step=step).manifest
    say(
        f"shards: {manifest.videos} videos packed, {len(manifest.quarantined)} quarantined, "
        f"{len(manifest.missing)} listed but not there"
    )
    return shards


def _refuse_empty_parts(index: ShardIndex, split: int) -> None:
    """Shards hold every split; the one that is asked for needs videos to learn from and others to be measured with."""
    counts = index.manifest.splits.get(str(split))
    if counts is not None and not (counts.train and counts.test):
        others = [number for number, count in index.manifest.splits.items() if count.train and count.test]
        another = f", or take --split {' or '.join(others)} (make: SPLIT=)" if others else ""
        raise InputError(
            f"split {split} has {counts.train} training and {counts.test} test videos in {index.root}, and the demo "
            "needs both",
            remedy=f"complete the videos or the lists and remove that folder{another}",
        )


def _changes(index: ShardIndex, split: int, epochs: int | None, seed: int) -> Sequence[str]:
    """What all runs set beside the preset, as --set takes it."""
    settings = preset("demo")
    asked, measured, meant_for = settings.optimizer, settings.evaluation, settings.loader.batch_size
    videos = len(index.split_samples(split, "train"))
    batch = max(2, min(meant_for, videos // _LEAST_BATCHES))
    steps = shuffled_steps(videos, batch, World())
    epochs = epochs or max(settings.epochs, -(-_LEAST_STEPS // steps))
    warmup = max(asked.warmup_epochs, min(-(-_LEAST_WARMUP // steps), epochs // 10))
    fading = epochs if settings.kd.fade_epochs else 0
    every = -(-epochs // _MOST_EVALUATIONS)
    return [
        *(f"split={split}", f"loader.batch_size={batch}", f"epochs={epochs}", f"seed={seed}"),
        *(f"optimizer.reference_batch={meant_for}", f"optimizer.warmup_epochs={warmup}"),
        f"evaluation.every={every}",
        f"evaluation.features_every={every * measured.features_every // measured.every}",
        f"kd.fade_epochs={fading}",
    ]
