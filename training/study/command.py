"""train-kd study, as the command line gives it."""

from pathlib import Path

import click

__all__ = ["study", "time_networks"]


@click.command()
@click.option("--data", required=True, help="Shard set of shard-ucf101 pack, a folder or a URL.")
@click.option(
    "--out", type=click.Path(path_type=Path), required=True, help="Folder of the runs; several hosts may share it."
)
@click.option("--preset", default="pcl", show_default=True, help="Settings of all runs; demo: small and quick.")
@click.option("--set", "assignments", multiple=True, metavar="NAME=VALUE", help="Change any setting, for all runs.")
@click.option("--epochs", type=click.IntRange(min=1), default=None, help="Of every run; else the preset's.")
@click.option("--seeds", type=click.IntRange(min=1), default=1, show_default=True, help="Repetitions of everything.")
@click.option(
    "--pairs",
    default="all",
    show_default=True,
    metavar="TEACHER:STUDENT,...",
    help="all: c3d, r3d and r2plus1d, each with each. Several teachers at once: c3d+r3d:r2plus1d.",
)
@click.option("--fractions", default="1", show_default=True, metavar="F,...", help="Shares of the training videos.")
@click.option(
    "--terms",
    default="recipe",
    show_default=True,
    metavar="NAME,...",
    help="What is distilled: recipe (as set), both, none, or some of pretext, contrast, feature, relation joined by +; "
    "self: as set, from the student of the epoch before.",
)
@click.option(
    "--widths", default="1", show_default=True, metavar="W,...", help="Of students, as factors of the teachers' width."
)
@click.option(
    "--finetune",
    type=click.IntRange(min=1),
    is_flag=False,
    flag_value=150,
    default=None,
    metavar="[EPOCHS]",
    help="Fine-tune every network with the labels at the end, for 150 epochs or so many.",
)
@click.option("--latency", is_flag=True, help="Time the networks in ONNX Runtime at the end; see train-kd latency.")
@click.option("--jobs", type=click.IntRange(min=1), default=1, show_default=True, help="Runs side by side.")
@click.option(
    "--part", default="1/1", show_default=True, metavar="I/N", help="One of N parts of the plan, for job arrays."
)
@click.option("--dry-run", is_flag=True, help="Show the plan with estimated time and disk, and stop.")
@click.pass_context
def study(
    context: click.Context,
    data: str,
    out: Path,
    preset: str,
    assignments: tuple[str, ...],
    epochs: int | None,
    seeds: int,
    pairs: str,
    fractions: str,
    terms: str,
    widths: str,
    finetune: int | None,
    latency: bool,
    jobs: int,
    part: str,
    dry_run: bool,
) -> None:
    """Train teachers, their students, and controls without a teacher; the same command goes on where it was stopped."""
    if latency:
        from pclkd.training.exchange.onnx_backbone import check_onnx

        check_onnx()  # before the hours that come first
    from pclkd.training.models.registry import backbone_names
    from pclkd.training.study import plan
    from pclkd.training.study.estimate import plan_table
    from pclkd.training.study.execution import StoppedError
    from pclkd.training.study.study import StudyFolder

    asked = plan.Study(
        preset=preset,
        assignments=(*assignments, *([f"epochs={epochs}"] if epochs is not None else [])),
        pairs=plan.read_pairs(pairs, backbone_names()),
        seeds=seeds,
        fractions=plan.read_fractions(fractions),
        terms=plan.read_terms(terms),
        widths=plan.read_widths(widths),
    )
    number, parts = plan.read_part(part)
    modules = context.parent.params["modules"] if context.parent is not None else ()
    folder = StudyFolder(asked, data, out, modules)
    runs = plan.part_of(folder.runs, number, parts)
    try:
        if dry_run:
            click.echo(plan_table(folder, runs, jobs, finetune or 0))
            return
        more = folder.fine_tuning(runs, finetune) if finetune else []
        names = [*(run.name for run in runs), *(job.name for job in more)]
        more += [folder.timing(names)] if latency and names else []
        outcomes = set(folder.carry_out(runs, jobs, more).values())
    except StoppedError as stopped:
        click.echo(str(stopped), err=True)
        raise click.exceptions.Exit(stopped.exit_code) from None
    if outcomes - {"done"}:  # a part without runs has none at all, and nobody need come back for it
        raise click.exceptions.Exit(1 if "failed" in outcomes else StoppedError.exit_code)


@click.command("latency")
@click.argument("directory", type=click.Path(path_type=Path))
@click.option("--data", default=None, help="Shard set, a folder or a URL; else the study's.")
@click.option(
    "--rounds", type=click.IntRange(min=2), default=50, show_default=True, help="Clips that each is timed with."
)
def time_networks(directory: Path, data: str | None, rounds: int) -> None:
    """Time the networks of the study in DIRECTORY in ONNX Runtime, one CPU thread, float and 8-bit.

    Measures how well they describe the test videos there, too; train-kd report then shows accuracy against latency.
    """
    from pclkd.training.study.latency import measure_latency

    click.echo(f"wrote {measure_latency(directory, data, rounds)}")
