"""Trained backbones for use elsewhere: safetensors with a card that says what to feed them, and ONNX.

OUT/backbone.safetensors    the weights
OUT/card.json               architecture, input, normalisation, provenance, metrics
OUT/backbone.onnx           where asked for; checked against PyTorch
"""

import json
import math
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from pclkd.pipeline.clips.covering import UniformRecipe
from pclkd.pipeline.opening import clip_loader
from pclkd.pipeline.pixels.colours import MEAN, STD
from pclkd.pipeline.world import World
from pclkd.sharding.common.errors import InputError
from pclkd.sharding.common.files import atomic_write, write_text
from pclkd.sharding.shards.index import ShardIndex
from pclkd.training.exchange.onnx_backbone import OnnxBackbone, check_onnx, write_onnx
from pclkd.training.exchange.trained_backbone import CARD_FORMAT, CARD_NAME, WEIGHTS_NAME
from pclkd.training.models.base import Backbone
from pclkd.training.runs.checkpoint import Checkpoint, load_checkpoint, load_model
from pclkd.training.runs.clip_form import ClipForm
from pclkd.training.runs.run_folder import read_run
from pclkd.training.settings import RunSettings

__all__ = ["ONNX_TOLERANCE", "export_backbone", "export_onnx", "prepared_clips"]

_ONNX_NAME = "backbone.onnx"
ONNX_TOLERANCE = 1e-4
"""Largest difference between a feature of ONNX Runtime and of PyTorch, relative to the largest feature."""


def export_backbone(run: Path, out: Path) -> dict[str, Any]:
    """Write the backbone of a run and its card.

    Args:
        run: a run folder or a checkpoint.
        out: folder to write; made where it does not exist.

    Returns:
        The card.

    Raises:
        InputError: no readable checkpoint, or `out` is not a folder.
    """
    from safetensors.torch import save

    checkpoint = load_checkpoint(run)
    backbone = load_model(checkpoint, run).base_network
    _make_folder(out)
    state = {key: value.contiguous() for key, value in backbone.state_dict().items()}
    with atomic_write(out / WEIGHTS_NAME) as file:
        file.write(save(state, metadata={"format": "pt"}))
    card = _card(run, checkpoint, backbone)
    write_text(out / CARD_NAME, json.dumps(card, indent=2) + "\n")  # last: a folder with a card is whole
    return card


def export_onnx(run: Path, out: Path, data: Path) -> float:
    """Write the backbone as ONNX, [N, 3, T, H, W] -> [N, F] with any N, and compare it on real clips.

    Args:
        run: a run folder or a checkpoint.
        out: folder to write.
        data: shard set whose first test clips are compared.

    Returns:
        The largest difference, relative to the largest feature.

    Raises:
        InputError: packages are missing, or the difference passes ONNX_TOLERANCE (the file is removed then).
    """
    check_onnx()
    checkpoint = load_checkpoint(run)
    backbone = load_model(checkpoint, run).base_network.eval()
    index = ShardIndex.open(data)
    samples = index.split_samples(checkpoint.settings.split, "test")[:2]
    clips = prepared_clips(index, checkpoint.settings, samples, 4 // len(samples))
    _make_folder(out)
    path = out / _ONNX_NAME
    write_onnx(backbone, clips, path)
    with torch.inference_mode():
        expected = backbone(clips).numpy()
    found = OnnxBackbone(path, torch.get_num_threads())(clips.numpy())
    difference = float(np.abs(found - expected).max() / np.abs(expected).max())
    if not difference <= ONNX_TOLERANCE:
        path.unlink()
        raise InputError(
            f"ONNX Runtime's features differ from PyTorch's by {difference:.1e} of the largest",
            remedy="use another version of onnxruntime or torch; the file was removed",
        )
    return difference


def _make_folder(out: Path) -> None:
    try:
        out.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise InputError(f"{out} is not a folder", remedy="give another place for the export") from None


def prepared_clips(index: ShardIndex, settings: RunSettings, samples: NDArray[np.int64], views: int) -> torch.Tensor:
    """[samples * views, 3, T, H, W] real clips, prepared as the network saw them in training, but plain."""
    recipe = UniformRecipe(views=views, clip_frames=settings.tuples.clip_frames)
    how: dict[str, Any] = {"shuffle": False, "recipe": recipe, "batch_size": len(samples), "decode": "cpu"}
    with clip_loader(index, settings, World(), samples=samples, device=torch.device("cpu"), **how) as loader:
        (batch,) = loader.epoch(0)
    return batch.clips.flatten(0, 1).contiguous()


def _card(run: Path, checkpoint: Checkpoint, backbone: Backbone) -> dict[str, Any]:
    settings = checkpoint.settings
    side, frames = settings.loader.crop, settings.tuples.clip_frames
    return {
        "format": CARD_FORMAT,
        "backbone": {
            "name": settings.backbone.name,
            "width": settings.backbone.width,
            "feature_dim": backbone.feature_dim,
            "parameters": sum(parameter.numel() for parameter in backbone.parameters()),
        },
        "input": {
            "shape": ["N", 3, frames, side, side],
            "layout": "N, RGB, time, height, width",
            "mean": list(MEAN),
            "std": list(STD),
            "modality": settings.loader.modality,
            "residual": "x[t-1] - x[t] after normalisation, frame 0 against the last frame"
            if settings.loader.modality == "residual"
            else None,
        },
        "clips": ClipForm.of_run(run, settings).model_dump(mode="json"),  # arguments of video_clips
        "training": {
            "pretext": settings.pretext.task,
            "contrast": settings.pcl.contrast,
            "epoch": checkpoint.epoch,
            "step": checkpoint.step,
            "split": settings.split,
            "data_fingerprint": checkpoint.fingerprint,
        },
        "metrics": _metrics(run),
        "pclkd": metadata.version("pclkd"),
        "torch": torch.__version__,
    }


def _metrics(run: Path) -> dict[str, float]:
    """The last epoch's and every evaluation's percentages, with their standard errors."""
    if not run.is_dir():
        return {}
    record = read_run(run)
    found = dict(record.epochs[-1]) if record.epochs else {}
    figures = {name: value for name, value in found.items() if name.startswith("val/")}
    for protocol, content in record.evals.items():
        figures |= {
            f"eval/{protocol}/{name}": value
            for name, value in content.items()
            if name.endswith(("_pct", "_pct_se")) and isinstance(value, int | float)
        }
    return {name: float(value) for name, value in figures.items() if value is not None and math.isfinite(value)}
