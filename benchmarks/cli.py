"""bench-throughput: how fast data is loaded, how fast a step is, and what is lost between the two."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from pclkd.sharding.console import CleanGroup
from pclkd.sharding.errors import InputError

if TYPE_CHECKING:
    from pclkd.benchmarks.clip_shape import ClipShape
    from pclkd.benchmarks.result import BenchmarkResult
    from pclkd.benchmarks.step_case import StepNetworks

__all__ = ["main"]

_PATH = click.Path(path_type=Path)
Command = Callable[..., None]


@click.group(cls=CleanGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="pclkd")
def main() -> None:
    """Measure throughput: warm-up, interleaved rounds, median and spread, hardware and versions."""


def _networks(command: Command) -> Command:
    """The options of every benchmark that trains."""
    for option in (
        click.option("--crop", type=int, default=None, help="Pixels a side.  [default: 112; 48 without a GPU]"),
        click.option("--frames", type=int, default=None, help="Frames a clip.  [default: 16; 8 without a GPU]"),
        click.option(
            "--batch-size",
            type=click.IntRange(min=1),
            default=None,
            help="Samples; 3 clips each.  [default: 16; 8 without a GPU]",
        ),
        click.option("--width", type=float, default=None, help="Of all channels.  [default: 1; 0.25 without a GPU]"),
        click.option("--teacher", default=None, help="Backbone of the teacher."),
        click.option("--backbone", default="r3d", show_default=True, help="Backbone of the student."),
    ):
        command = option(command)
    return command


def _measuring(command: Command) -> Command:
    """The options of every benchmark."""
    for option in (
        click.option("--json", "json_file", type=_PATH, default=None, help="Write the result to this file as well."),
        click.option(
            "--min-seconds", type=click.FloatRange(min=0), default=1.0, show_default=True, help="Shortest turn."
        ),
        click.option("--rounds", type=click.IntRange(min=1), default=5, show_default=True, help="Turns of each case."),
    ):
        command = option(command)
    return command


@main.command()
@click.option("--data", type=_PATH, required=True, help="Shard set of shard-ucf101 pack.")
@click.option("--videos", type=_PATH, default=None, help="The originals, to compare with decoding them.")
@click.option("--splits", type=_PATH, default=None, help="The split lists that belong to --videos.")
@click.option("--recipe", type=click.Choice(["plain", "pcl"]), default="plain", show_default=True, help="Work to do.")
@click.option("--batch-size", type=click.IntRange(min=1), default=16, show_default=True, help="Samples; 3 clips each.")
@click.option("--frames", type=int, default=16, show_default=True, help="Frames a clip.")
@click.option("--crop", type=int, default=None, help="Pixels a side.  [default: 112, or what fits]")
@click.option("--samples", type=click.IntRange(min=1), default=64, show_default=True, help="Samples a pass, at most.")
@click.option("--workers", type=click.IntRange(min=0), default=0, help="Threads or processes.  [default: one a core]")
@_measuring
def load(
    data: Path,
    videos: Path | None,
    splits: Path | None,
    recipe: Literal["plain", "pcl"],
    batch_size: int,
    frames: int,
    crop: int | None,
    samples: int,
    workers: int,
    rounds: int,
    min_seconds: float,
    json_file: Path | None,
) -> None:
    """Clips a second of the loader, of bare range reads, and of torch DataLoaders with other libraries.

    plain: every loader crops, flips and normalises the same clips. pcl: the full augmentation, this loader alone.
    """
    if (videos is None) != (splits is None):
        raise InputError("--videos and --splits belong together, and only one is given", remedy="give both or neither")
    from pclkd.benchmarks.clip_shape import ClipShape
    from pclkd.benchmarks.load import LoadBenchmark, find_videos

    _ready(json_file)
    found = find_videos(videos, splits) if videos is not None and splits is not None else None
    benchmark = LoadBenchmark(data, found, recipe, ClipShape(batch_size, frames, crop), samples, workers)
    _finish(benchmark.run(rounds=rounds, min_seconds=min_seconds, on_round=_teller(rounds)), json_file)


@main.command()
@_networks
@_measuring
def step(
    backbone: str,
    teacher: str | None,
    width: float | None,
    batch_size: int | None,
    frames: int | None,
    crop: int | None,
    rounds: int,
    min_seconds: float,
    json_file: Path | None,
) -> None:
    """Samples a second of the training step alone, PCL and PCL+KD, on clips that stay on the device.

    Without --teacher the teacher has the student's architecture.
    """
    from pclkd.benchmarks.step import StepBenchmark

    _ready(json_file)
    networks, shape = _sized(backbone, teacher or backbone, width, batch_size, frames, crop)
    result = StepBenchmark(networks, shape).run(rounds=rounds, min_seconds=min_seconds, on_round=_teller(rounds))
    _finish(result, json_file)


@main.command()
@click.option("--data", type=_PATH, required=True, help="Shard set of shard-ucf101 pack.")
@click.option("--split", type=click.IntRange(min=1), default=1, show_default=True, help="Its train part is used.")
@click.option(
    "--steps", type=click.IntRange(min=1), default=None, help="A pass, at most.  [default: 50; 5 without a GPU]"
)
@click.option("--workers", type=click.IntRange(min=0), default=0, help="Loader threads.  [default: one a core]")
@_networks
@_measuring
def train(
    data: Path,
    split: int,
    steps: int | None,
    workers: int,
    backbone: str,
    teacher: str | None,
    width: float | None,
    batch_size: int | None,
    frames: int | None,
    crop: int | None,
    rounds: int,
    min_seconds: float,
    json_file: Path | None,
) -> None:
    """Samples a second of training end to end, beside the same step alone and the loader alone.

    Without --teacher it is PCL alone, with one PCL+KD.
    """
    from pclkd.benchmarks.train import TrainBenchmark

    _ready(json_file)
    networks, shape = _sized(backbone, teacher, width, batch_size, frames, crop)
    benchmark = TrainBenchmark(data, split, networks, shape, steps or (50 if _has_gpu() else 5), workers)
    _finish(benchmark.run(rounds=rounds, min_seconds=min_seconds, on_round=_teller(rounds)), json_file)


def _sized(
    backbone: str,
    teacher: str | None,
    width: float | None,
    batch_size: int | None,
    frames: int | None,
    crop: int | None,
) -> "tuple[StepNetworks, ClipShape]":
    """By default the published size where there is a GPU, and that of the demo where there is none."""
    from pclkd.benchmarks.clip_shape import ClipShape
    from pclkd.benchmarks.step_case import StepNetworks

    usual = (1.0, 16, 16, 112) if _has_gpu() else (0.25, 8, 8, 48)
    networks = StepNetworks(backbone, teacher, usual[0] if width is None else width)
    return networks, ClipShape(batch_size or usual[1], usual[2] if frames is None else frames, crop, usual[3])


def _has_gpu() -> bool:
    import torch

    return torch.cuda.is_available()


def _ready(json_file: Path | None) -> None:
    from pclkd.benchmarks.result import check_writable

    check_writable(json_file)


def _teller(rounds: int) -> Callable[[int], None]:
    return lambda number: click.echo(f"round {number}/{rounds}", err=True)


def _finish(result: "BenchmarkResult", json_file: Path | None) -> None:
    from pclkd.benchmarks.result import show_result, write_result

    click.echo(show_result(result))
    if json_file is not None:
        write_result(result, json_file)
