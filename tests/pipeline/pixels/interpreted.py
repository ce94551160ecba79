"""The kernels in Triton's interpreter beside their definitions in float64 and beside `fused`; run by `test_kernels`.

Writes, as JSON, by case and clip how far they are apart, in levels.
"""

import dataclasses
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path

os.environ["TRITON_INTERPRET"] = "1"  # before Triton is there

import cv2
import numpy as np
import simplejpeg
import torch

from pclkd.pipeline.clips.augment import ClipAugment, centre_crop
from pclkd.pipeline.pixels.colours import MEAN, STD
from pclkd.pipeline.pixels.dali import FrameDecoder, FrameGraph
from pclkd.pipeline.pixels.finish import ClipFinish
from pclkd.pipeline.pixels.fused import FusedColours
from pclkd.pipeline.pixels.kernel_check import kernels_apart, kernels_fault
from pclkd.pipeline.pixels.kernels import KernelColours
from pclkd.pipeline.pretext.base import PretextDraw
from pclkd.pipeline.pretext.clip_order import ClipOrderDraw
from pclkd.pipeline.pretext.rotation import RotationDraw
from pclkd.pipeline.pretext.speed import SpeedDraw
from pclkd.pipeline.pretext.vcp import CHUNK_PAIRS, VcpDraw

SIDE, FRAMES = 8, 4
# Factors that put no level at a half, which rounds up or down by the last bit.
OPERATORS: dict[str, dict[str, float]] = {
    "nothing": {},
    "flip": {"flip": 1},
    "brightness": {"brightness": 1.317},
    "contrast": {"contrast": 0.613},
    "saturation": {"saturation": 1.4},
    "hue": {"hue": 30},
    "grayscale": {"saturation": 0},
    "blur": {"sigma": 0.5},
    "blur beyond the edges": {"sigma": 2.6},
    "all": {"flip": 1, "brightness": 1.217, "contrast": 1.313, "saturation": 0.7, "hue": -20, "sigma": 0.6},
}
LEVEL = 255 * np.array(STD)


class Negative(PretextDraw):
    """What no gather can do."""

    def apply(self, clips: torch.Tensor) -> torch.Tensor:
        return clips.neg_()


def drawn(changes: list[dict[str, float]], views: int) -> ClipAugment:
    neutral = centre_crop(np.full((len(changes) // views, 2), SIDE), views, SIDE)
    arrays = {name: value.copy() for name, value in vars(neutral).items()}
    for number, change in enumerate(changes):
        for name, value in change.items():
            arrays[name].reshape(-1)[number] = value
    return dataclasses.replace(neutral, **arrays)


def defined(levels: np.ndarray, augment: ClipAugment, finish: ClipFinish) -> np.ndarray:
    """[B, V, T, H, W, 3] float64: each step as it is defined, on a pixel at a time."""
    yiq = np.array([[0.299, 0.587, 0.114], [0.596, -0.274, -0.321], [0.211, -0.523, 0.311]])
    clips = []
    parameters = ("flip", "brightness", "contrast", "saturation", "hue", "sigma")
    rows = zip(*(getattr(augment, name).reshape(-1) for name in parameters), strict=True)
    for clip, (flip, b, c, s, h, sigma) in zip(levels.astype(np.float64), rows, strict=True):
        clip = clip[:, :, ::-1] if flip else clip
        luma, i, q = np.moveaxis(clip @ yiq.T, -1, 0)
        chroma = (i - 1j * q) * float(s) * np.exp(1j * np.deg2rad(float(h)))
        turned = np.stack([luma, chroma.real, -chroma.imag], axis=-1) @ np.linalg.inv(yiq).T
        clip = np.rint(np.clip(float(b) * (128 + float(c) * (turned - 128)), 0, 255))
        if sigma > 0:
            reach = int(np.ceil(3 * sigma))
            taps = np.exp(-0.5 * (np.arange(-reach, reach + 1) / float(sigma)) ** 2)
            for axis in (1, 2):
                padded = np.pad(clip, [(reach, reach) if a == axis else (0, 0) for a in range(4)], mode="reflect")
                shifted = (np.take(padded, np.arange(k, k + SIDE), axis) for k in range(len(taps)))
                clip = sum(tap * part for tap, part in zip(taps / taps.sum(), shifted, strict=True))
        clips.append((clip / 255 - MEAN) / STD)
    whole = torch.from_numpy(np.stack(clips)).view(*augment.flip.shape, FRAMES, SIDE, SIDE, 3)
    whole = whole.permute(0, 1, 5, 2, 3, 4).contiguous()
    done = finish.draw.apply(whole) if finish.draw is not None else whole
    done = torch.roll(done, 1, 3) - done if finish.residual else done
    return done.permute(0, 1, 3, 4, 5, 2).numpy()


def cases() -> Iterator[tuple[str, list[dict[str, float]], int, PretextDraw | None]]:
    """Name, changes of each clip, clips a sample, pretext transform."""
    yield "operators", list(OPERATORS.values()), 1, None
    kinds = [(0, 0), *((1, n) for n in range(3)), (2, 0), *((3, n) for n in range(len(CHUNK_PAIRS))), (4, 0)]
    label, variant = np.array(kinds).T
    # Neighbours differ, so that a clip with another's parameters is noticed.
    unlike: list[dict[str, float]] = [{"flip": 1}, {"hue": 30}, {"flip": 1, "brightness": 0.813}, {"contrast": 1.317}]
    yield "vcp", unlike * 3, 1, VcpDraw(("",) * 5, label, variant)
    yield "order", ([*unlike, {"sigma": 0.3}] * 4)[:18], 3, ClipOrderDraw(("",) * 6, np.arange(6))
    yield "rotation", unlike * 2, 2, RotationDraw(("",) * 4, np.arange(4), "all")
    yield "rotation of the middle", unlike, 1, RotationDraw(("",) * 4, np.arange(4), "middle")
    yield "speed", unlike[:2], 2, SpeedDraw(("",) * 2, np.array([1]), np.array([[1, 2]]))
    yield "own", unlike[:2], 2, Negative(("",), np.array([0]))


def beyond(found: torch.Tensor, wanted: np.ndarray) -> np.ndarray:
    """[N, ...] levels by which a result misses what its type can hold of the wanted one."""
    held = 0 if found.dtype is torch.float32 else torch.finfo(found.dtype).eps * np.abs(wanted)
    return (np.maximum(np.abs(found.double().numpy() - wanted) - held, 0) * LEVEL).reshape(-1, FRAMES, SIDE, SIDE, 3)


def decoded() -> dict[str, float]:
    """Of JPEGs whose windows differ in size, by the decoder: levels between kernels and DALI's operators."""
    few = np.random.default_rng(1).integers(30, 220, (4 * FRAMES, 6, 8, 3), dtype=np.uint8)
    frames = [cv2.resize(frame, (48, 32), interpolation=cv2.INTER_CUBIC) for frame in few]  # smooth, as JPEG likes it
    jpegs = [np.frombuffer(simplejpeg.encode_jpeg(frame), np.uint8) for frame in frames]
    window = {"height": 16, "width": 16}
    augment = drawn([window | change for change in ({"flip": 1}, {"hue": 30}, {"top": 5}, {"left": 9, "width": 24})], 2)
    finish = ClipFinish(RotationDraw(("",) * 4, np.array([1, 2]), "middle"), residual=True)
    clips = []
    for colours in ("kernels", "graph"):
        decoder = FrameDecoder(FrameGraph(len(jpegs), (SIDE, SIDE), colours, "cpu", torch.device("cpu"), 1))
        clips.append(decoder.decode(jpegs, augment, finish))
        decoder.close()
        assert clips[-1].flatten(0, 1).is_contiguous(memory_format=torch.channels_last_3d)
    error = (clips[0] - clips[1]).abs().double().permute(0, 1, 3, 4, 5, 2).numpy() * LEVEL
    return {"mean": float(error.mean()), "largest": float(error.max())}


def measured(file: Path) -> None:
    kernels, fused = KernelColours((SIDE, SIDE)), FusedColours((SIDE, SIDE), 1)
    told: dict[str, list[dict[str, float]]] = {}
    for name, changes, views, draw in cases():
        levels = np.random.default_rng(len(name)).integers(
            0, 256, (len(changes), FRAMES, SIDE, SIDE, 3), dtype=np.uint8
        )
        augment, frames = drawn(changes, views), levels.reshape(-1, SIDE, SIDE, 3)
        for residual in (False, True):
            finish = ClipFinish(draw, residual)
            wanted = defined(levels, augment, finish)
            reference = fused.apply(frames, augment, finish).numpy()
            types = (
                [torch.float32, torch.bfloat16, torch.float16]
                if name in {"rotation of the middle", "own"}
                else [torch.float32]
            )
            for dtype in types:
                found = kernels.apply(torch.from_numpy(frames), augment, finish, dtype)
                assert found.dtype is dtype and found.shape == wanted.shape
                case = f"{name}, {'residual' if residual else 'rgb'}, {str(dtype).removeprefix('torch.')}"
                told[case] = [
                    {
                        "largest": float(error.max()),
                        "off": float((error > 0.02).mean()),
                        "from_fused": float(other.max()),
                    }
                    for error, other in zip(beyond(found, wanted), beyond(found, reference), strict=True)
                ]
    fused.close()
    apart = kernels_apart(torch.device("cpu"))
    file.write_text(
        json.dumps({"cases": told, "apart": apart, "fault": kernels_fault(torch.device("cpu")), "decoded": decoded()})
    )


if __name__ == "__main__":
    measured(Path(sys.argv[1]))
