r"""train-kd: self-supervised training, distillation, evaluation, reports.

One GPU or the CPU:     train-kd pretrain --data SHARDS --out RUN
One node, 8 GPUs:       torchrun --nproc-per-node 8 -m pclkd.training.cli pretrain --data SHARDS --out RUN
Two nodes:              torchrun --nnodes 2 --nproc-per-node 8 --rdzv-backend c10d --rdzv-endpoint HOST:29400 \
                            -m pclkd.training.cli pretrain --data SHARDS --out RUN
"""

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from pclkd.sharding.common.console import CleanGroup
from pclkd.sharding.common.errors import InputError
from pclkd.training.doctor.command import doctor
from pclkd.training.evaluation.command import controls, evaluate
from pclkd.training.exchange.command import embed, export, predict
from pclkd.training.options import Finite
from pclkd.training.study.command import study, time_networks
from pclkd.training.visualize.command import search, visualize

__all__ = ["main"]

_LEARNERS = ("moco", "simsiam", "byol", "vicreg", "barlow_twins")  # pcl.learner's, without loading torch


@click.group(cls=CleanGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="pclkd")
@click.option(
    "--import",
    "modules",
    multiple=True,
    metavar="MODULE",
    help="Import this module or .py file first: it registers networks or terms of yours (register_backbone, ...).",
)
def main(modules: tuple[str, ...]) -> None:
    """Learn video features without labels (PCL), and hand them on to other networks (PCL+KD)."""
    if modules:
        from pclkd.sharding.common.user_modules import import_user_module

        _choose_waiting()  # they may load torch
        for module in modules:
            import_user_module(module)


def _choose_waiting() -> None:
    """Have OpenMP's threads sleep while they wait where other programs need the processors; before torch is loaded."""
    from pclkd.training.compute.neighbours import choose_waiting

    choose_waiting()


for command in (doctor, study, time_networks, evaluate, controls, visualize, export, predict, embed, search):
    main.add_command(command)


@main.command()
@click.option(
    "--width",
    type=click.FloatRange(0, 4, min_open=True),
    default=1.0,
    show_default=True,
    help="Factor on all channel counts.",
)
@click.option("--frames", type=click.IntRange(min=1), default=16, show_default=True, help="Frames a clip.")
@click.option("--crop", type=click.IntRange(min=16), default=112, show_default=True, help="Pixels a side.")
@click.option("--batch-size", type=click.IntRange(min=1), default=1, show_default=True, help="Clips a forward pass.")
@click.option("--no-speed", is_flag=True, help="Count only: answers at once.")
@click.option("--json", "as_json", is_flag=True, help="Figures as JSON.")
def models(width: float, frames: int, crop: int, batch_size: int, no_speed: bool, as_json: bool) -> None:
    """List the backbones: parameters, multiply-adds a clip, forward passes a second on this machine."""
    from pclkd.pipeline.world import World
    from pclkd.training.compute.distributed import choose_device
    from pclkd.training.models.registry import backbone_names
    from pclkd.training.models.table import measure_backbone, show_figures

    device = choose_device()
    figures = [
        measure_backbone(name, width, (frames, crop), batch=batch_size, device=device, timed=not no_speed)
        for name in backbone_names(width)
    ]
    if as_json:
        click.echo(json.dumps([asdict(row) for row in figures], indent=1))
        return
    click.echo(show_figures(figures))
    where = "a GPU" if device.type == "cuda" else f"the CPU, {World().cores} cores"
    note = "" if no_speed else f"; clips/s: forward passes, batch {batch_size}, on {where}"
    click.echo(f"\nclips of 3 x {frames} x {crop} x {crop}, width {width:g}{note}")


@main.command()
@click.option("--data", required=True, help="Shard set of shard-ucf101 pack, a folder or a URL.")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder for the pictures.")
@click.option("--preset", default="pcl", show_default=True, help="pcl, pcl-published, kd, or demo: small and quick.")
@click.option("--set", "assignments", multiple=True, metavar="NAME=VALUE", help="Change any setting.")
@click.option("--samples", type=click.IntRange(min=1), default=5, show_default=True, help="Sheets and GIFs to make.")
@click.option("--compare", is_flag=True, help="Show the stored frames as well, with the window that is cut out.")
def preview(data: str, out: Path, preset: str, assignments: tuple[str, ...], samples: int, compare: bool) -> None:
    """Make pictures of what the network is fed: augmented tuples with their pretext class and parameters.

    Writes overview.png, with every pretext class, and a sheet and a GIF of each of some samples.
    """
    from pclkd.training import settings as all_settings
    from pclkd.training.preview.preview import write_previews

    settings = all_settings.override(all_settings.preset(preset), assignments)
    for path in write_previews(data, out, settings, samples=samples, compare=compare):
        click.echo(f"wrote {path}")


def _run_options(command: Callable[..., None]) -> Callable[..., None]:
    """The options that pretrain and distill share."""
    options = [
        click.option("--data", help="Shard set of shard-ucf101 pack, a folder or a URL.  [required]"),
        click.option("--out", type=click.Path(path_type=Path), help="Run folder to write.  [required]"),
        click.option("--backbone", default=None, help="r3d (default), c3d, r2plus1d, ...: see train-kd models."),
        click.option(
            "--preset", default="pcl", show_default=True, help="pcl, pcl-published, kd, or demo: small and quick."
        ),
        click.option("--set", "assignments", multiple=True, metavar="NAME=VALUE", help="Change any setting."),
        click.option(
            "--learner",
            type=click.Choice(_LEARNERS),
            help="Learn by this alone, on the first and the third clip, instead of by PCL.",
        ),
        click.option("--epochs", type=click.IntRange(min=0), default=None, help="Passes over the training videos."),
        click.option("--max-steps", type=click.IntRange(min=1), default=None, help="Stop after so many steps in all."),
        click.option("--track", type=click.Choice(["wandb", "mlflow"]), help="Log there too, beside TensorBoard."),
        click.option("--resume", is_flag=True, help="Go on from the run's checkpoint where there is one."),
        click.option("--print-config", is_flag=True, help="Print all settings with their meaning, and stop."),
    ]
    for option in reversed(options):
        command = option(command)
    return command


@main.command()
@_run_options
def pretrain(**options: Any) -> None:
    """Train a network with PCL: pretext classification and contrast, no labels, no teacher."""
    _train(teachers={}, **options)


@main.command()
@click.option(
    "--teacher",
    "teachers",
    multiple=True,
    help="Run folder, checkpoint, weights from outside, or timm:NAME, hf:REPOSITORY, torchvision:NAME, "
    "module:path.to:function; again for more teachers.  [required, but for kd.self_teacher]",
)
@click.option(
    "--teacher-key",
    "teacher_keys",
    multiple=True,
    metavar="PREFIX",
    help="Which network of several in a file from outside, such as encoder_q; one for all teachers, or one for each.",
)
@click.option(
    "--teacher-cache",
    type=click.Path(path_type=Path),
    help="Folder: ask the teachers once about fixed views of each video, not in every step about the student's clips.",
)
@_run_options
def distill(
    teachers: tuple[str, ...], teacher_keys: tuple[str, ...], teacher_cache: Path | None, **options: Any
) -> None:
    """Train a student with PCL and a frozen teacher's softened outputs, whatever the two architectures."""
    _train(teachers={"teachers": teachers, "teacher_keys": teacher_keys, "teacher_cache": teacher_cache}, **options)


@main.command("fit-heads")
@click.option("--teacher", required=True, help="The frozen network, as in train-kd distill.")
@click.option("--teacher-key", default="", metavar="PREFIX", help="Which network of several in a file from outside.")
@click.option("--data", required=True, help="Shard set of shard-ucf101 pack, a folder or a URL.")
@click.option(
    "--out", required=True, type=click.Path(path_type=Path), help="Folder; then train-kd distill --teacher it."
)
@click.option("--preset", default="pcl", show_default=True, help="Of the students that it is to teach.")
@click.option("--set", "assignments", multiple=True, metavar="NAME=VALUE", help="Change any setting.")
@click.option("--epochs", type=click.IntRange(min=1), default=5, show_default=True, help="Passes over the videos.")
@click.option("--lr", type=Finite(min=0, min_open=True), default=1e-3, show_default=True, help="Of AdamW.")
def fit_heads(
    teacher: str,
    teacher_key: str,
    data: str,
    out: Path,
    preset: str,
    assignments: tuple[str, ...],
    epochs: int,
    lr: float,
) -> None:
    """Fit PCL heads on a frozen network, so that it can teach pretext and contrastive distributions."""
    from pclkd.training import settings as all_settings

    settings = all_settings.override(all_settings.preset(preset), assignments)
    for assignment in assignments:
        if assignment.startswith(("optimizer.", "epochs=")):
            raise InputError(
                f"--set {assignment} would not be heeded: AdamW fits the heads", remedy="give --epochs and --lr"
            )
    _choose_waiting()
    from pclkd.training.loop.fit_heads import fit_heads

    fit_heads(teacher, data, out, settings, epochs=epochs, lr=lr, key=teacher_key)
    click.echo(f"wrote {out}: train-kd distill --teacher {out}")


def _train(
    *,
    teachers: dict[str, Any],
    data: str | None,
    out: Path | None,
    backbone: str | None,
    preset: str,
    assignments: tuple[str, ...],
    learner: str | None,
    epochs: int | None,
    max_steps: int | None,
    track: str | None,
    resume: bool,
    print_config: bool,
) -> None:
    from pclkd.pipeline.world import World
    from pclkd.training import settings as all_settings

    flags = [f"backbone.name={backbone}"] if backbone is not None else []
    flags += [f"pcl.learner={learner}"] if learner else []
    flags += [f"epochs={epochs}"] if epochs is not None else []
    flags += [f"track={track}"] if track else []
    alone = ["pretext.task=none"] if learner else []  # but where --set asks for a task beside the learner
    settings = all_settings.override(all_settings.preset(preset), [*alone, *assignments, *flags])
    if print_config:
        click.echo(all_settings.describe(settings))
        return
    if teachers and not teachers["teachers"] and not settings.kd.self_teacher:
        raise click.UsageError("Missing option '--teacher'.")
    if data is None or out is None:  # not click's "required": printing the settings needs neither
        raise click.UsageError(f"Missing option '--{'data' if data is None else 'out'}'.")
    _choose_waiting()
    from pclkd.training.loop.plan import plan_run
    from pclkd.training.loop.preemption import EXIT_PREEMPTED, PreemptedError
    from pclkd.training.loop.trainer import train

    plan = plan_run(out, data, settings, **teachers, resume=resume, max_steps=max_steps, world=World.from_environment())
    try:
        train(plan)
    except PreemptedError as stopped:
        if plan.world.is_first:
            click.echo(str(stopped), err=True)
        raise click.exceptions.Exit(EXIT_PREEMPTED) from None


@main.command()
@click.argument("directory", type=click.Path(path_type=Path))
def report(directory: Path) -> None:
    """Draw the curves and the tables of a study, or of all runs, in DIRECTORY; writes DIRECTORY/report/."""
    from pclkd.training.findings.records import is_study
    from pclkd.training.findings.report import write_study_report
    from pclkd.training.report.report import write_report

    page = write_study_report(directory) if is_study(directory) else write_report(directory)
    click.echo(f"wrote {page}")


@main.command()
@click.option("--out", type=click.Path(path_type=Path), default=Path("runs/demo"), show_default=True)
@click.option(
    "--videos", type=click.Path(path_type=Path), default=None, help="UCF-101 folder; rendered videos if left out."
)
@click.option(
    "--splits", type=click.Path(path_type=Path), default=None, help="ucfTrainTestlist folder of those videos."
)
@click.option("--split", type=click.IntRange(min=1), default=1, show_default=True, help="Official split.")
@click.option("--epochs", type=click.IntRange(min=1), default=None, help="Epochs a run; else the preset's.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of the first teacher.")
@click.option("--seeds", type=click.IntRange(min=1), default=1, show_default=True, help="Repetitions of all runs.")
@click.option("--jobs", type=click.IntRange(min=1), default=None, help="Runs side by side; else as the cores allow.")
def demo(
    out: Path,
    videos: Path | None,
    splits: Path | None,
    split: int,
    epochs: int | None,
    seed: int,
    seeds: int,
    jobs: int | None,
) -> None:
    """The whole story at laptop size: videos, shards, a teacher, students with and without it, a report.

    The same command goes on with a demo that was stopped.
    """
    from pclkd.training.demo import run_demo
    from pclkd.training.study.execution import StoppedError

    try:
        run_demo(out, videos=videos, splits=splits, split=split, epochs=epochs, seed=seed, seeds=seeds, at_once=jobs)
    except StoppedError as stopped:
        click.echo(str(stopped), err=True)
        raise click.exceptions.Exit(stopped.exit_code) from None


if __name__ == "__main__":
    main()
