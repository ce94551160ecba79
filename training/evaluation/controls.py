"""What PCL is held against, on the same clips and splits: below it what needs no training, above it what has labels.

    OUT/control-motion                 hand-made features of motion; PCL should be worth more than formulas
    OUT/control-untrained-BACKBONE     the network as a run of this seed starts
    OUT/control-supervised-BACKBONE    the same network after training with the labels

Each is a folder as a run's, with settings.json, env.json and its evaluations, so that a report shows it among the runs.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from pclkd.sharding.common.errors import InputError
from pclkd.sharding.common.files import write_text
from pclkd.sharding.common.settings import change
from pclkd.sharding.shards.index import ShardIndex
from pclkd.training.compute.distributed import choose_device
from pclkd.training.evaluation.evaluate import write_evaluation
from pclkd.training.evaluation.evaluator import Describer, Evaluator, VideoFeatures
from pclkd.training.evaluation.finetune import FinetuneSettings, finetune
from pclkd.training.evaluation.motion_features import MotionFeatures
from pclkd.training.models.memory_layout import placed
from pclkd.training.options import check_folder
from pclkd.training.runs.checkpoint import build_model
from pclkd.training.runs.environment import describe_environment
from pclkd.training.runs.run_folder import (
    CONTROLS,
    ENVIRONMENT_NAME,
    SETTINGS_NAME,
    Control,
    Protocol,
    evaluation_path,
    read_run,
)
from pclkd.training.settings import RunSettings

__all__ = ["measure_controls"]

_PROTOCOLS: tuple[Protocol, ...] = ("linear", "knn", "retrieval")
_DECIDES: Any = {
    "split": True,
    "tuples": {"clip_frames"},
    "loader": {"crop", "modality"},
    "augment": True,
    "backbone": True,
    "seed": True,
    "precision": True,
}  # of a run's settings; the others change nothing here


def measure_controls(
    out: Path,
    data: str | Path,
    settings: RunSettings,
    how: FinetuneSettings,
    *,
    only: Sequence[Control] = CONTROLS,
    step: Callable[[int, float], None] = lambda *_: None,
) -> Iterator[tuple[str, dict[Protocol, dict[str, Any]]]]:
    """Measure the controls one by one; those that are whole in `out` are kept.

    Args:
        out: where their folders go: beside the runs.
        data: the shard set.
        settings: of the runs: clips, split, backbone, seed.
        how: clips a video, and how the supervised network is trained.
        only: which controls.
        step: called after each epoch of supervised training with its number and mean loss.

    Yields:
        Name and evaluations of each.

    Raises:
        InputError: data that does not fit or has no labels, or a control that is there was measured with other
            settings.
    """
    index = ShardIndex.open(data)
    index.require_labels("measuring controls")
    check_folder(out)
    for control in only:
        name = "control-motion" if control == "motion" else f"control-{control}-{settings.backbone.name}"
        folder = out / name
        protocols = (*_PROTOCOLS, "finetune") if control == "supervised" else _PROTOCOLS
        told = _describe(control, index, settings, how)
        there = [evaluation_path(folder, protocol).exists() for protocol in protocols]
        if any(there):
            _refuse_other_settings(folder, told)
        if not all(there):
            measured = _measure(control, index, settings, how, step, folder)
            if not any(there):  # only now: an attempt that was refused leaves nothing that the next one would meet
                _claim(folder, told)
            for protocol, found in measured.items():
                asked = {"split": settings.split, "clips": how.clips}
                if protocol == "finetune":
                    asked |= {"finetune_epochs": how.epochs}
                write_evaluation(folder, protocol, index, {**found, **asked})
        yield name, read_run(folder).evals


def _describe(control: Control, index: ShardIndex, settings: RunSettings, how: FinetuneSettings) -> dict[str, Any]:
    """The settings.json of a control: all that decides its figures."""
    told = {**settings.model_dump(mode="json", include=_DECIDES), "clips": how.clips}
    if control == "motion":  # formulas: nothing is drawn, and flow needs the frames themselves
        told = {key: told[key] for key in ("split", "tuples", "clips")} | {
            "loader": {**told["loader"], "modality": "rgb"},
            "backbone": {"name": "hand-made"},
        }
    if control == "supervised":
        told["finetuning"] = how.model_dump(mode="json")
    return {"control": control, **told, "data_fingerprint": index.fingerprint}


def _claim(folder: Path, told: dict[str, Any]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    write_text(folder / ENVIRONMENT_NAME, json.dumps(describe_environment(), indent=2) + "\n")
    write_text(folder / SETTINGS_NAME, json.dumps(told, indent=2) + "\n")


def _refuse_other_settings(folder: Path, told: dict[str, Any]) -> None:
    there = read_run(folder).settings
    for key in sorted({*told, *there}):
        if told.get(key) != there.get(key):
            raise InputError(
                f"{folder} was measured with {key} = {there.get(key)}, not {told.get(key)}",
                remedy="give the same settings, or another --out, or remove that folder",
            )


def _measure(
    control: Control,
    index: ShardIndex,
    settings: RunSettings,
    how: FinetuneSettings,
    step: Callable[[int, float], None],
    folder: Path,
) -> dict[Protocol, dict[str, Any]]:
    device = choose_device()
    found: dict[Protocol, dict[str, Any]] = {}
    network: Describer
    if control == "motion":
        settings = change(settings, {"loader.modality": "rgb"})
        network = MotionFeatures()
    else:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(settings.seed)
            network = model = placed(build_model(settings), device, settings.layout)
        if control == "supervised":
            found["finetune"] = finetune(model.base_network, index, settings, how, device, step, folder)
    with Evaluator(index, settings, device, how.clips) as evaluator:
        train, test = evaluator.features(network, "train"), evaluator.features(network, "test")
        if control == "motion":
            train, test = _on_one_scale(train, test)
        found["linear"] = evaluator.linear(train, test)
        found["knn"] = evaluator.knn(train, test)
        found["retrieval"] = evaluator.retrieval(train, test)
    return found


def _on_one_scale(train: VideoFeatures, test: VideoFeatures) -> tuple[VideoFeatures, VideoFeatures]:
    """Standardised by the training videos: formulas differ in their units, and a cosine would see the largest alone."""
    mean, std = train.features.mean(0), train.features.std(0, correction=0).clamp(min=1e-9)
    train, test = (replace(part, features=(part.features - mean) / std) for part in (train, test))
    return train, test
