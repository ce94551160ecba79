"""Trained backbones for use elsewhere, as a folder that the Hugging Face hub takes as it is: `hf upload USER/NAME OUT`.

OUT/model.safetensors    the weights
OUT/config.json          architecture, input, normalisation, provenance, metrics
OUT/README.md            the same for people, with the figures as the hub shows them
OUT/backbone.onnx        where asked for; checked against PyTorch
OUT/backbone.pt2         where asked for: torch.export, for AOTInductor and ExecuTorch; checked, too
"""

import io
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
from pclkd.sharding.common.files import atomic_write, write_bytes, write_text
from pclkd.sharding.shards.index import ShardIndex
from pclkd.training.exchange.model_card import describe_backbone, model_card
from pclkd.training.exchange.onnx_backbone import OnnxBackbone, check_onnx, write_onnx
from pclkd.training.exchange.trained_backbone import CARD_NAME, WEIGHTS_NAME
from pclkd.training.models.base import Backbone
from pclkd.training.options import check_folder
from pclkd.training.runs.checkpoint import Checkpoint, load_checkpoint, load_model
from pclkd.training.settings import RunSettings

__all__ = ["ONNX_TOLERANCE", "Trained", "export_backbone", "export_onnx", "export_program", "prepared_clips"]

_README, _ONNX_NAME, _PROGRAM_NAME = "README.md", "backbone.onnx", "backbone.pt2"
_MARKS = {CARD_NAME: '"pclkd": ', _README: '"library_name": "pclkd"'}  # what both have that were written here
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
    """Write a backbone and its card; what an export before wrote there is replaced, its other forms are removed.

    Args:
        trained: what to write.
        out: folder to write; made where it does not exist.

    Returns:
        The card.

    Raises:
        InputError: `out` is not a folder, or holds such files of something else.
    """
    from safetensors.torch import save

    _claim(out)
    state = {key: value.contiguous() for key, value in trained.backbone.state_dict().items()}
    card = describe_backbone(trained.run, trained.checkpoint, trained.backbone)
    write_text(out / _README, model_card(card))  # first: by it an export that was ended is known again
    write_bytes(out / WEIGHTS_NAME, save(state, metadata={"format": "pt"}))
    write_text(out / CARD_NAME, json.dumps(card, indent=2) + "\n")  # last: a folder with a card is whole
    return card


def export_program(trained: Trained, out: Path) -> float:
    """Write the backbone as a `torch.export` program, [N, 3, T, H, W] -> [N, F] with any N, and compare it on noise.

    Returns:
        The largest difference, relative to the largest feature.

    Raises:
        InputError: the difference passes ONNX_TOLERANCE; nothing is written then.
    """
    backbone, settings = trained.backbone, trained.checkpoint.settings
    side = settings.loader.crop
    clips = torch.randn(3, 3, settings.tuples.clip_frames, side, side)
    written = io.BytesIO()
    with torch.no_grad():
        # Two clips as an example: of one the exporter would take N for a constant.
        program = torch.export.export(backbone, (clips[:2],), dynamic_shapes=({0: torch.export.Dim("N", min=1)},))
        torch.export.save(program, written)
        expected = backbone(clips).numpy()
        found = torch.export.load(io.BytesIO(written.getvalue())).module()(clips).numpy()
    difference = _difference(found, expected, "the exported program", "torch")
    write_bytes(out / _PROGRAM_NAME, written.getvalue())
    return difference


def _difference(found: NDArray[np.float32], expected: NDArray[np.float32], what: str, by: str) -> float:
    difference = float(np.abs(found - expected).max() / np.abs(expected).max())
    if not difference <= ONNX_TOLERANCE:
        raise InputError(
            f"{what}'s features differ from PyTorch's by {difference:.1e} of the largest",
            remedy=f"use another version of {by}; no such file was written",
        )
    return difference


def export_onnx(trained: Trained, out: Path, data: str | Path) -> float:
    """Write the backbone as ONNX, [N, 3, T, H, W] -> [N, F] with any N, and compare it on real clips.

    Args:
        trained: what to write.
        out: folder that `export_backbone` wrote.
        data: shard set whose first test clips are compared.

    Returns:
        The largest difference, relative to the largest feature.

    Raises:
        InputError: packages are missing, or the difference passes ONNX_TOLERANCE; nothing is written then.
    """
    check_onnx()
    backbone, settings = trained.backbone, trained.checkpoint.settings
    index = ShardIndex.open(data)
    samples = index.split_samples(settings.split, "test")[:2]
    clips = prepared_clips(index, settings, samples, 4 // len(samples))
    with torch.inference_mode():
        expected = backbone(clips).numpy()
    with atomic_write(out / _ONNX_NAME) as file:
        part = Path(file.name)
        write_onnx(backbone, clips, part)
        found = OnnxBackbone(part, torch.get_num_threads())(clips.numpy())
        return _difference(found, expected, "ONNX Runtime", "onnxruntime or torch")


def _claim(out: Path) -> None:
    """Make the folder of an export, or clear that of one before of forms that would be of the old network."""
    check_folder(out)
    theirs = [name for name in (*_MARKS, WEIGHTS_NAME, _ONNX_NAME, _PROGRAM_NAME) if (out / name).exists()]
    if theirs and not any(
        (out / name).is_file() and mark in (out / name).read_text(errors="replace") for name, mark in _MARKS.items()
    ):
        raise InputError(f"{out} holds a {theirs[0]} that no export wrote", remedy="give a folder of its own")
    out.mkdir(parents=True, exist_ok=True)
    for name in (_ONNX_NAME, _PROGRAM_NAME):
        (out / name).unlink(missing_ok=True)


def prepared_clips(index: ShardIndex, settings: RunSettings, samples: NDArray[np.int64], views: int) -> torch.Tensor:
    """[samples * views, 3, T, H, W] real clips, prepared as the network saw them in training, but plain."""
    recipe = UniformRecipe(views=views, clip_frames=settings.tuples.clip_frames)
    how: dict[str, Any] = {"shuffle": False, "recipe": recipe, "batch_size": len(samples), "decode": "cpu"}
    with clip_loader(index, settings, World(), samples=samples, device=torch.device("cpu"), **how) as loader:
        (batch,) = loader.epoch(0)
    return batch.clips.flatten(0, 1).contiguous()
