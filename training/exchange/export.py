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

from pclkd.pipeline.clips.covering import UniformRecipe
from pclkd.pipeline.opening import clip_loader
from pclkd.pipeline.pixels.colours import MEAN, STD
from pclkd.pipeline.world import World
from pclkd.sharding.common.errors import InputError
from pclkd.sharding.common.files import atomic_write, write_text
from pclkd.sharding.shards.index import ShardIndex
from pclkd.training.exchange.trained_backbone import CARD_FORMAT, CARD_NAME, WEIGHTS_NAME
from pclkd.training.models.base import Backbone
from pclkd.training.runs.checkpoint import Checkpoint, load_checkpoint, load_model
from pclkd.training.runs.run_folder import read_run

__all__ = ["ONNX_TOLERANCE", "export_backbone", "export_onnx"]

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
    try:
        import onnxruntime
        import onnxscript  # noqa: F401 - torch's exporter needs it
    except ImportError as error:
        raise InputError(f"ONNX export needs {error.name}", remedy="pip install 'pclkd[onnx]'") from None
    checkpoint = load_checkpoint(run)
    backbone = load_model(checkpoint, run).base_network.eval()
    clips = _some_clips(checkpoint, data)
    _make_folder(out)
    path = out / _ONNX_NAME
    # Two clips: an example of one would let the exporter take N for a constant.
    torch.onnx.export(
        backbone,
        (clips[:2],),
        str(path),
        input_names=["clips"],
        output_names=["features"],
        dynamic_shapes=({0: torch.export.Dim("N", min=1)},),
        dynamo=True,
        external_data=False,
        verbose=False,
    )
    with torch.inference_mode():
        expected = backbone(clips).numpy()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {"clips": clips.numpy()})
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


def _some_clips(checkpoint: Checkpoint, data: Path) -> torch.Tensor:
    """[4, 3, T, H, W] real clips, prepared as the network saw them in training."""
    settings = checkpoint.settings
    index = ShardIndex.open(data)
    samples = index.split_samples(settings.split, "test")[:2]
    recipe = UniformRecipe(views=4 // len(samples), clip_frames=settings.tuples.clip_frames)
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
            "stored_frames": "frames are resized before the crop; see the shard set",
            "mean": list(MEAN),
            "std": list(STD),
            "modality": settings.loader.modality,
            "residual": "x[t-1] - x[t] after normalisation, frame 0 against the last frame"
            if settings.loader.modality == "residual"
            else None,
        },
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
