"""train-kd evaluate and train-kd controls, as the command line gives them."""

import json
from pathlib import Path
from typing import Any

import click

from pclkd.sharding.common.errors import visible
from pclkd.training.options import CLIPS
from pclkd.training.runs.run_folder import CONTROLS, PROTOCOLS, Measured

__all__ = ["controls", "evaluate"]


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--data", required=True, help="Shard set to measure on, a folder or a URL.")
@click.option(
    "--protocol",
    "protocols",
    type=click.Choice(PROTOCOLS),
    multiple=True,
    required=True,
    help="What to measure; again for more.",
)
@click.option(
    "--split",
    "splits",
    type=click.IntRange(min=1),
    multiple=True,
    help="Official split; again for the mean of several.",
)
@click.option("--clips", type=CLIPS, default=10, show_default=True, help="Clips a video.")
@click.option("--epochs", default=150, show_default=True, help="Of fine-tuning.")
@click.option("--lr", default=1e-3, show_default=True, help="Of fine-tuning.")
@click.option("--batch-size", default=8, show_default=True, help="Of fine-tuning.")
def evaluate(
    run: Path,
    data: str,
    protocols: tuple[Any, ...],
    splits: tuple[int, ...],
    clips: int,
    epochs: int,
    lr: float,
    batch_size: int,
) -> None:
    """Measure a trained network on the test videos; writes RUN/eval-PROTOCOL.json.

    finetune keeps its network, too, in RUN/finetuned.safetensors, for train-kd predict. RUN may be a checkpoint: what
    RUN/best.pt gives is eval-PROTOCOL-best.json and the folder finetuned-best.
    """
    from pclkd.training.compute.neighbours import choose_waiting

    choose_waiting()  # before torch is loaded
    from pclkd.training.evaluation.evaluate import evaluate_run
    from pclkd.training.evaluation.finetune import FinetuneSettings

    def tell(epoch: int, loss: float) -> None:
        click.echo(f"fine-tuning: epoch {epoch}/{epochs} loss {loss:.3f}", err=True)

    how = FinetuneSettings.given(epochs=epochs, lr=lr, batch_size=batch_size)
    for result in evaluate_run(run, data, protocols, splits=splits, clips=clips, finetuning=how, step=tell):
        click.echo(json.dumps(result, indent=2))
        if seen := result.get("test_videos_seen"):
            told = f"{visible(str(run))} was trained, without labels, on {seen} of these test videos"
            note = "only the split that it was trained for holds none"
            click.echo(f"warning: {result['protocol']}: {told}; {note}", err=True)


@click.command()
@click.option("--data", required=True, help="Shard set to measure on, a folder or a URL.")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder that holds the runs.")
@click.option("--backbone", default=None, help="Of the two networks; else the preset's.")
@click.option("--preset", default="pcl", show_default=True, help="As for the runs: it decides the clips.")
@click.option("--set", "assignments", multiple=True, metavar="NAME=VALUE", help="Change any setting.")
@click.option("--only", type=click.Choice(CONTROLS), multiple=True, help="This one alone; again for more.")
@click.option("--clips", type=CLIPS, default=10, show_default=True, help="Clips a video.")
@click.option("--epochs", default=30, show_default=True, help="Of training with the labels.")
@click.option("--lr", default=0.03, show_default=True, help="Of training with the labels.")
@click.option("--batch-size", default=16, show_default=True, help="Of training with the labels.")
def controls(
    data: str,
    out: Path,
    backbone: str | None,
    preset: str,
    assignments: tuple[str, ...],
    only: tuple[Any, ...],
    clips: int,
    epochs: int,
    lr: float,
    batch_size: int,
) -> None:
    """Measure what PCL is held against: motion features made by hand, the untrained network, one trained with labels.

    Each gets a folder OUT/control-..., which train-kd report shows beside the runs. What is there is kept.
    """
    from pclkd.training.compute.neighbours import choose_waiting

    choose_waiting()  # before torch is loaded
    from pclkd.training import settings as all_settings
    from pclkd.training.evaluation.controls import measure_controls
    from pclkd.training.evaluation.finetune import FinetuneSettings

    def tell(epoch: int, loss: float) -> None:
        click.echo(f"with labels: epoch {epoch}/{epochs} loss {loss:.3f}", err=True)

    flags = [f"backbone.name={backbone}"] if backbone is not None else []
    settings = all_settings.override(all_settings.preset(preset), [*assignments, *flags])
    how = FinetuneSettings.given(epochs=epochs, lr=lr, batch_size=batch_size, clips=clips)
    for name, found in measure_controls(out, data, settings, how, only=only or CONTROLS, step=tell):
        linear = Measured.of(found["linear"], "linear_top1_pct")
        retrieval = Measured.of(found["retrieval"], "retrieval_r1_pct")
        click.echo(f"{name}: linear_top1_pct {linear}, retrieval_r1_pct {retrieval}")
