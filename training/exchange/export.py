"""Trained backbones for use elsewhere, as a folder that the Hugging Face hub takes as it is: `hf upload USER/NAME OUT`.

OUT/model.safetensors    the weights
OUT/config.json          architecture, input, normalisation, provenance, metrics
OUT/README.md            the same for people, with the figures as the hub shows them
OUT/backbone.onnx        where asked for; checked against PyTorch
OUT/backbone.pt2         where asked for: torch.export, for AOTInductor and ExecuTorch; checked, too
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray

from pclkd.pipeline.clips.covering import UniformRecipe
from pclkd.pipeline.opening import clip_loader
from pclkd.pipeline.world import World
from pclkd.sharding.common.errors import InputError
from pclkd.sharding.common.files import atomic_write, write_text
from pclkd.sharding.shards.index import ShardIndex
from pclkd.training.exchange.model_card import describe_backbone, model_card
from pclkd.training.exchange.onnx_backbone import OnnxBackbone, check_onnx, write_onnx
from pclkd.training.exchange.trained_backbone import CARD_NAME, WEIGHTS_NAME
from pclkd.training.models.base import Backbone
from pclkd.training.runs.checkpoint import Checkpoint, load_checkpoint, load_model
from pclkd.training.settings import RunSettings

__all__ = ["ONNX_TOLERANCE", "Trained", "export_backbone", "export_onnx", "export_program", "prepared_clips"]

_ONNX_NAME, _PROGRAM_NAME = "backbone.onnx", "backbone.pt2"
ONNX_TOLERANCE = 1e-4
"""Largest difference between a feature of ONNX Runtime, or of an exported program, and of PyTorch, relative to the
largest feature."""


@dataclass(frozen=True)
class Trained:
    """What is exported.

    Attributes:
        run: a run folder or a checkpoint.
        checkpoint: of it.
        backbone: in eval mode.
    """

    run: Path
    checkpoint: Checkpoint
    backbone: Backbone

    @classmethod
    def of(cls, run: Path) -> Self:
        """Read a run.

        Raises:
            InputError: no readable checkpoint.
        """
        checkpoint = load_checkpoint(run)
        return cls(run, checkpoint, load_model(checkpoint, run).base_network.eval())


def export_backbone(trained: Trained, out: Path) -> dict[str, Any]:
    """Write a backbone and its card.

    Args:
        trained: what to write.
        out: folder to write; made where it does not exist.

    Returns:
        The card.

    Raises:
        InputError: `out` is not a folder.
    """
    from safetensors.torch import save

    _make_folder(out)
    state = {key: value.contiguous() for key, value in trained.backbone.state_dict().items()}
    with atomic_write(out / WEIGHTS_NAME) as file:
        file.write(save(state, metadata={"format": "pt"}))
    card = describe_backbone(trained.run, trained.checkpoint, trained.backbone)
    write_text(out / "README.md", model_card(card))
    write_text(out / CARD_NAME, json.dumps(card, indent=2) + "\n")  # last: a folder with a card is whole
    return card


def export_program(trained: Trained, out: Path) -> float:
    """Write the backbone as a `torch.export` program, [N, 3, T, H, W] -> [N, F] with any N, and compare it on noise.

    Returns:
        The largest difference, relative to the largest feature.

    Raises:
        InputError: the difference passes ONNX_TOLERANCE (the file is removed then).
    """
    backbone, settings = trained.backbone, trained.checkpoint.settings
    side = settings.loader.crop
    clips = torch.randn(3, 3, settings.tuples.clip_frames, side, side)
    _make_folder(out)
    path = out / _PROGRAM_NAME
    with torch.no_grad():
        # Two clips as an example: of one the exporter would take N for a constant.
        program = torch.export.export(backbone, (clips[:2],), dynamic_shapes=({0: torch.export.Dim("N", min=1)},))
        with atomic_write(path) as file:
            torch.export.save(program, file)
        expected = backbone(clips).numpy()
        found = torch.export.load(path).module()(clips).numpy()
    return _difference(found, expected, path, "the exported program", "torch")


def _difference(found: NDArray[np.float32], expected: NDArray[np.float32], path: Path, what: str, by: str) -> float:
    difference = float(np.abs(found - expected).max() / np.abs(expected).max())
    if not difference <= ONNX_TOLERANCE:
        path.unlink()
        raise InputError(
            f"{what}'s features differ from PyTorch's by {difference:.1e} of the largest",
            remedy=f"use another version of {by}; the file was removed",
        )
    return difference


def export_onnx(trained: Trained, out: Path, data: Path) -> float:
    """Write the backbone as ONNX, [N, 3, T, H, W] -> [N, F] with any N, and compare it on real clips.

    Args:
        trained: what to write.
        out: folder to write.
        data: shard set whose first test clips are compared.

    Returns:
        The largest difference, relative to the largest feature.

    Raises:
        InputError: packages are missing, or the difference passes ONNX_TOLERANCE (the file is removed then).
    """
    check_onnx()
    backbone, settings = trained.backbone, trained.checkpoint.settings
    index = ShardIndex.open(data)
    samples = index.split_samples(settings.split, "test")[:2]
    clips = prepared_clips(index, settings, samples, 4 // len(samples))
    _make_folder(out)
    path = out / _ONNX_NAME
    write_onnx(backbone, clips, path)
    with torch.inference_mode():
        expected = backbone(clips).numpy()
    found = OnnxBackbone(path, torch.get_num_threads())(clips.numpy())
    return _difference(found, expected, path, "ONNX Runtime", "onnxruntime or torch")


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
