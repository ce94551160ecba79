"""Are decoded and augmented frames what other libraries make of them."""

import dataclasses
import io
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import simplejpeg  # type: ignore[import-untyped]
import torch
from numpy.typing import NDArray
from PIL import Image

from pclkd.pipeline.clips.augment import ClipAugment
from pclkd.pipeline.pixels.colours import colour_maps
from pclkd.pipeline.pixels.parity import OPERATORS, ClipJpegs, Operator, Way, apart, decoded, reference
from pclkd.pipeline.reading.reader import FrameReader
from pclkd.sharding.shards.index import ShardIndex
from pclkd.training.doctor.examination import Machine, Outcome, judged

__all__ = ["check_augmentation", "check_decoding"]

Frames = NDArray[np.float64]
Ours = Callable[[ClipJpegs, tuple[int, int], int, Way, Operator], Frames]

_CROP = 56
_MOST_ON_GPU = (1.0, 40.0)  # nvJPEG's (mean, largest) error in levels beside libjpeg's
_ALL_THE_SAME = "reinstall the versions of constraints.txt: pip install --force-reinstall --constraint constraints.txt"


def check_decoding(machine: Machine, ours: Ours = decoded) -> Outcome:
    """DALI beside Pillow, and simplejpeg beside Pillow."""
    clips, size = _clips(machine)
    pillow, simple = (
        np.array([[decode(jpeg.tobytes()) for jpeg in clip] for clip in clips], np.float64)
        for decode in (_pillow, simplejpeg.decode_jpeg)
    )
    operator = OPERATORS["crop"]
    found = {"simplejpeg": (apart(simple, pillow), (0.0, 0.0))}
    true = reference(clips, size, _CROP, operator)
    found["DALI"] = (apart(ours(clips, size, _CROP, Way("none"), operator), true), (0.0, 0.0))
    if machine.device.type == "cuda":
        there = Way("none", "mixed", machine.device)
        found["nvJPEG"] = (apart(ours(clips, size, _CROP, there, operator), true), _MOST_ON_GPU)
    figures = [f"{name} {error.mean:.2g} levels, at most {error.largest:.2g}" for name, (error, _) in found.items()]
    off = [error.mean > mean + 1e-3 or error.largest > most + 1e-3 for error, (mean, most) in found.values()]
    return judged(f"beside Pillow: {'; '.join(figures)}", fails=any(off), remedy=_ALL_THE_SAME)


def check_augmentation(machine: Machine, ours: Ours = decoded) -> Outcome:
    """Every operator as it will run here, beside torchvision; those that differ by design beside their own maths."""
    clips, size = _clips(machine)
    gpu = machine.device.type == "cuda"
    way = Way("graph" if gpu else "fused", device=machine.device)
    shares: dict[str, float] = {}
    for name, operator in _with_maths(OPERATORS).items():
        error = apart(ours(clips, size, _CROP, way, operator), reference(clips, size, _CROP, operator))
        mean, largest = operator.within or (0.0, 0.0)
        shares[name] = max(error.mean / (mean + 1e-3), error.largest / (largest + 1e-2))
    worst = max(shares, key=lambda name: shares[name])
    wrong = [name for name, share in shares.items() if not share <= 1]
    figure = f"{len(shares)} operators; furthest: {worst}, {100 * shares[worst]:.0f} % of what rounding explains"
    return judged(f"wrong: {', '.join(wrong)}; {figure}" if wrong else figure, fails=bool(wrong), remedy=_ALL_THE_SAME)


def _with_maths(operators: Mapping[str, Operator]) -> dict[str, Operator]:
    """Operators that differ from torchvision by design get the map of their colours as reference, in float64."""
    return {
        name: operator
        if operator.within is not None
        else dataclasses.replace(operator, reference=_mapped, within=(0.3, 1.0))
        for name, operator in operators.items()
    }


def _mapped(frames: Any, p: dict[str, float]) -> Any:
    names = [field.name for field in dataclasses.fields(ClipAugment)]
    colours = colour_maps(ClipAugment(**{name: np.array([[p[name]]]) for name in names}))[0].astype(np.float64)
    levels = np.einsum("dc,tchw->tdhw", colours[:, :3], frames.double().numpy()) + colours[:, 3, None, None]
    return torch.from_numpy(levels.clip(0, 255))


def _clips(machine: Machine) -> tuple[ClipJpegs, tuple[int, int]]:
    index = ShardIndex.open(machine.shards)
    reader = FrameReader(index)
    clips = [reader.read(sample, np.arange(3) * 15) for sample in range(len(index))]
    reader.close()
    return clips, index.smallest_frame


def _pillow(jpeg: bytes) -> NDArray[np.uint8]:
    return np.asarray(Image.open(io.BytesIO(jpeg)).convert("RGB"))
