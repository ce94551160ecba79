"""Size, work and speed of the backbones."""

import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch.utils.flop_counter import FlopCounterMode

from pclkd.sharding.common.console import text_columns
from pclkd.sharding.common.errors import InputError
from pclkd.training.compute.precision import Precision
from pclkd.training.models.memory_layout import layout_of, placed
from pclkd.training.models.registry import build_backbone

__all__ = ["BackboneFigures", "measure_backbone", "show_figures"]

_TURNS = 3
_LARGEST_BATCH = 2**16


@dataclass(frozen=True)
class BackboneFigures:
    """One line of the table.

    Attributes:
        name: of the backbone.
        parameters: how many numbers it learns.
        frames: of the clip: as asked for, or the fewest that it takes.
        gmacs: 10^9 multiply-adds for a clip.
        feature_dim: length of a feature vector.
        clips_per_s: forward passes a second on this machine, median of three turns; None where not measured.
    """

    name: str
    parameters: int
    frames: int
    gmacs: float
    feature_dim: int
    clips_per_s: float | None


def measure_backbone(
    name: str, width: float, clip: tuple[int, int], *, batch: int, device: torch.device, timed: bool
) -> BackboneFigures:
    """Count, and time the forward pass where asked to.

    Args:
        name: of the backbone.
        width: factor on its channels.
        clip: frames and side of a clip, in pixels.
        batch: clips a forward pass.
        device: where to time.
        timed: whether to time at all.

    Raises:
        InputError: unknown backbone or width, clips too small for it, or a batch that does not fit into memory.
    """
    frames, side = clip
    if batch > _LARGEST_BATCH:
        raise InputError(f"a batch of {batch} clips", remedy=f"take --batch-size {_LARGEST_BATCH} or less")
    with torch.device("meta"):  # counting needs shapes alone
        shadow = build_backbone(name, width).eval()
        one = torch.empty(1, 3, max(frames, shadow.least_frames), side, side)
    try:
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            shadow(one)
    except RuntimeError:  # its strides and pooling leave nothing
        raise InputError(
            f"clips of {frames} x {side} x {side} are too small for the backbone {name}", remedy="take larger clips"
        ) from None
    return BackboneFigures(
        name=name,
        parameters=sum(parameter.numel() for parameter in shadow.parameters()),
        frames=one.shape[2],
        gmacs=counter.get_total_flops() / 2e9,
        feature_dim=shadow.feature_dim,
        clips_per_s=_speed(name, width, (batch, *one.shape[1:]), device) if timed else None,
    )


def show_figures(figures: Sequence[BackboneFigures]) -> str:
    """The table as text; columns that nobody measured are left out, and frames where all have as many."""
    timed = any(row.clips_per_s is not None for row in figures)
    differ = len({row.frames for row in figures}) > 1
    head = ["backbone", "parameters", *(["frames"] if differ else []), "GMACs/clip", "features"]
    head += ["clips/s"] if timed else []
    rows = [
        [row.name, f"{row.parameters:,}", *([str(row.frames)] if differ else [])]
        + [f"{row.gmacs:.2f}", str(row.feature_dim)]
        + ([f"{row.clips_per_s:.3g}"] if row.clips_per_s is not None else [])
        for row in figures
    ]
    return text_columns([head, *rows])


def _speed(name: str, width: float, shape: tuple[int, ...], device: torch.device) -> float:
    precision = Precision("auto", device)
    network = placed(build_backbone(name, width).eval(), device)
    try:
        clips = torch.randn(shape, device=device).contiguous(memory_format=layout_of(network))
    except RuntimeError:
        raise InputError(
            f"{shape[0]} clips of {' x '.join(map(str, shape[1:]))} do not fit into memory",
            remedy="take a smaller --batch-size",
        ) from None
    rates = []
    with torch.inference_mode(), precision.autocast():
        for turn in range(_TURNS + 1):
            began = time.perf_counter()
            network(clips)
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            if turn:  # the first warms up
                rates.append(shape[0] / (time.perf_counter() - began))
    return statistics.median(rates)
