"""train-kd export, predict and embed, as the command line gives them."""

import json
import os
import sys
from collections.abc import Iterable
from pathlib import Path

import click

from pclkd.sharding.common.errors import visible
from pclkd.training.options import CLIPS, KEY

__all__ = ["DamagedVideos", "embed", "export", "predict", "videos_of"]

_CLIPS = click.option("--clips", type=CLIPS, default=10, show_default=True, help="Clips a video.")
_VIDEOS = click.argument("videos", nargs=-1, required=True)


class DamagedVideos:
    """Tells of each video that cannot be decoded in one line; at the end there were some, or none."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, video: str, why: str) -> None:
        """Tell of one."""
        self.count += 1
        video = visible(video)
        click.echo(f"left out: {why if video in why else f'{video}: {why}'}", err=True)

    def leave(self) -> None:
        """End with exit code 3 where there were some, as packing does."""
        if self.count:
            raise click.exceptions.Exit(3)


def videos_of(words: tuple[str, ...]) -> Iterable[str]:
    """The files that the words of a command mean."""
    from pclkd.training.exchange.many_videos import name_videos

    return name_videos(words, map(os.fsdecode, sys.stdin.buffer))  # names need not be UTF-8


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--onnx", is_flag=True, help="Write ONNX too and check it on clips of --data.")
@click.option("--torch-export", "program", is_flag=True, help="Write a torch.export program too.")
@click.option("--data", default=None, help="Shard set for the check of --onnx, a folder or a URL.")
def export(run: Path, out: Path, onnx: bool, program: bool, data: str | None) -> None:
    """Write the backbone of RUN into the folder OUT: safetensors, a config and a model card.

    The folder is ready for the Hugging Face hub (hf upload USER/NAME OUT); load_backbone reads it from there, too.
    """
    from pclkd.training.exchange.export import Trained, export_backbone, export_onnx, export_program
    from pclkd.training.exchange.onnx_backbone import check_onnx

    if onnx and data is None:
        raise click.UsageError("Missing option '--data': --onnx is checked on real clips.")
    if data is not None and not onnx:
        raise click.UsageError("Option '--data' without '--onnx': nothing else is checked on real clips.")
    if onnx:
        check_onnx()  # before anything is written
    trained = Trained.of(run)
    card = export_backbone(trained, out)
    size = card["backbone"]
    click.echo(f"{size['name']} x{size['width']:g}, {size['parameters']:,} parameters, in {visible(str(out))}")
    if onnx and data is not None:
        difference = export_onnx(trained, out, data)
        click.echo(f"ONNX: its features differ from PyTorch's by {difference:.1e} of the largest")
    if program:
        difference = export_program(trained, out)
        click.echo(f"torch.export: its features differ from PyTorch's by {difference:.1e} of the largest")


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@_VIDEOS
@_CLIPS
@click.option("--top", type=click.IntRange(min=1), default=5, show_default=True, help="Classes to tell.")
def predict(run: Path, videos: tuple[str, ...], clips: int, top: int) -> None:
    """Name the actions in VIDEOS by the fine-tuned network of RUN: a line of JSON for each video, as it is done.

    VIDEOS are files, folders, globs, or - for names on standard input. What cannot be decoded is told and left out; the
    exit code is then 3.
    """
    _choose_waiting()
    from pclkd.training.exchange.predict import predict_videos

    damaged = DamagedVideos()
    for found in predict_videos(run, videos_of(videos), clips=clips, most=top, damaged=damaged):
        click.echo(json.dumps(found))
    damaged.leave()


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@_VIDEOS
@_CLIPS
@click.option("-o", "--out", type=click.Path(path_type=Path), required=True, help="FILE.npz, or FILE.parquet.")
@KEY
def embed(run: Path, videos: tuple[str, ...], clips: int, out: Path, key: str) -> None:
    """Write the features that the network of RUN gives of VIDEOS: for train-kd search, or for tools of yours.

    RUN is a run, an exported folder, or a file of weights; VIDEOS are files, folders, globs, or - for names on standard
    input. What cannot be decoded is told and left out; the exit code is then 3, and nothing is written where nothing is
    left.
    """
    _choose_waiting()
    from pclkd.training.exchange.features import check_feature_file, embed_videos, write_features

    check_feature_file(out)
    damaged = DamagedVideos()
    found = embed_videos(run, videos_of(videos), key=key, clips=clips, damaged=damaged)
    if not found.videos:  # an index that is there is worth more than an empty one
        click.echo(f"no features, so nothing was written to {visible(str(out))}", err=True)
        raise click.exceptions.Exit(3)
    write_features(out, found)
    click.echo(
        f"{len(found.videos)} videos, features [{', '.join(map(str, found.features.shape))}], in {visible(str(out))}"
    )
    damaged.leave()


def _choose_waiting() -> None:
    from pclkd.training.compute.neighbours import choose_waiting

    choose_waiting()  # before torch is loaded
