"""Measuring the networks of a study as a small device would run them: ONNX Runtime, one CPU thread, float and int8."""

import json
import tempfile
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch

from pclkd.sharding.common.errors import InputError
from pclkd.sharding.common.files import write_text
from pclkd.sharding.shards.index import ShardIndex
from pclkd.training.evaluation.evaluator import Evaluator
from pclkd.training.exchange.export import prepared_clips
from pclkd.training.exchange.onnx_backbone import OnnxBackbone, check_onnx, quantise, write_onnx
from pclkd.training.findings.devices import LATENCY_NAME, ONNX_NAME, PRECISIONS, Precision, compared
from pclkd.training.findings.records import STUDY_NAME, read_study
from pclkd.training.loop.progress import say
from pclkd.training.runs.checkpoint import load_checkpoint, load_model
from pclkd.training.runs.environment import describe_environment
from pclkd.training.runs.trusted import read_object

__all__ = ["measure_latency"]

_RANGES = 32  # training videos that decide the ranges of 8-bit activations
_WARM_UP = 3


def measure_latency(directory: Path, data: str | Path | None = None, rounds: int = 50) -> Path:
    """Measure accuracy of every finished run to be told of that has none yet, and time and size of networks anew.

    Args:
        directory: a study's folder.
        data: the shard set; by default the one that the study was trained on.
        rounds: forward passes of one clip by each network, all in turn.

    Returns:
        DIR/latency.json.

    Raises:
        InputError: packages are missing, no student is finished, or other data.
    """
    check_onnx()
    study = read_study(directory)
    runs = [run for run in compared(study) if study.epochs_done(run) >= study.epochs]
    if not runs:
        raise InputError(f"no student of {directory} is finished", remedy="let train-kd study end first")
    index = ShardIndex.open(data or str(read_object(directory / STUDY_NAME).get("data")))
    of_network = {run.network: run for run in reversed(runs)}
    with tempfile.TemporaryDirectory(prefix="pclkd-onnx-") as temporary:
        files: dict[tuple[str, Precision], Path] = {}
        for number, run in enumerate(runs):
            told, place = directory / run.name / ONNX_NAME, Path(temporary)
            needed = of_network[run.network] is run
            if not needed and told.exists():
                continue
            exported = _export(directory / run.name, index, place / run.name)
            if not told.exists():
                say(f"{run.name}: measured in ONNX Runtime ({number + 1} of {len(runs)})")
                write_text(told, json.dumps(_accuracies(directory / run.name, index, exported), indent=1) + "\n")
            if needed:
                files |= {(run.network, precision): file for precision, file in exported.items()}
            else:
                for file in exported.values():
                    file.unlink()
        settings = load_checkpoint(directory / runs[0].name).settings
        clip = prepared_clips(index, settings, index.split_samples(settings.split, "test")[:1], 1).numpy()
        times = _interleaved({key: OnnxBackbone(file) for key, file in files.items()}, clip, rounds)
        networks = [
            {"network": network, "precision": precision, "bytes": file.stat().st_size, "ms": times[network, precision]}
            for (network, precision), file in files.items()
        ]
    shape = list(clip.shape[1:])
    content = {"rounds": rounds, "clip": shape, "environment": describe_environment(), "networks": networks}
    write_text(directory / LATENCY_NAME, json.dumps(content, indent=1) + "\n")
    return directory / LATENCY_NAME


def _export(run: Path, index: ShardIndex, place: Path) -> dict[Precision, Path]:
    checkpoint = load_checkpoint(run)
    settings = checkpoint.settings
    samples = index.split_samples(settings.split, "train")
    clips = prepared_clips(index, settings, samples[:: -(-len(samples) // _RANGES)], 1)
    place.mkdir()
    files: dict[Precision, Path] = {precision: place / f"{precision}.onnx" for precision in PRECISIONS}
    write_onnx(load_model(checkpoint, run).base_network.eval(), clips, files["float"])
    quantise(files["float"], files["int8"], clips)
    return files


class _Both:
    """Backbones that look at the same clips; their features stand side by side."""

    training = False

    def __init__(self, backbones: Mapping[Precision, OnnxBackbone]) -> None:
        self._backbones = backbones

    def features(self, clips: torch.Tensor) -> torch.Tensor:
        return torch.cat([self._backbones[precision].features(clips) for precision in PRECISIONS], dim=-1)

    def train(self, mode: bool = True) -> Self:  # noqa: ARG002
        return self


def _accuracies(run: Path, index: ShardIndex, files: Mapping[Precision, Path]) -> dict[str, Any]:
    """Linear probe and retrieval of each precision, on the clips that the run was measured on."""
    checkpoint = load_checkpoint(run)
    settings = checkpoint.settings
    both = _Both({precision: OnnxBackbone(file) for precision, file in files.items()})
    found: dict[str, Any] = {"epoch": checkpoint.epoch, "clips": settings.evaluation.clips}
    with Evaluator(index, settings, torch.device("cpu"), settings.evaluation.clips) as evaluator:
        parts = [evaluator.features(both, part) for part in ("train", "test")]
        for number, precision in enumerate(PRECISIONS):
            train, test = (
                replace(part, features=part.features.chunk(len(PRECISIONS), dim=1)[number]) for part in parts
            )
            found[precision] = {**evaluator.linear(train, test), **evaluator.retrieval(train, test, ks=(1,))}
    return found


def _interleaved(
    backbones: Mapping[tuple[str, Precision], OnnxBackbone], clip: np.ndarray, rounds: int
) -> dict[tuple[str, Precision], list[float]]:
    """Milliseconds of each forward pass; a round has one of every network.

    Of this thread's processor time, since it does all the work: what passes on a machine that is still, whatever else
    this one is doing.
    """
    times: dict[tuple[str, Precision], list[float]] = {key: [] for key in backbones}
    for number in range(_WARM_UP + rounds):
        for key, backbone in backbones.items():
            began = time.thread_time()
            backbone(clip)
            if number >= _WARM_UP:
                times[key].append(round(1000 * (time.thread_time() - began), 4))
    return times
