"""Whether the kernels run here and do what the steps on a CPU do: a small batch both ways, once in a process."""

import functools

import numpy as np
import torch

from pclkd.pipeline.clips.augment import AugmentSettings, draw
from pclkd.pipeline.pixels.colours import STD
from pclkd.pipeline.pixels.finish import ClipFinish
from pclkd.pipeline.pixels.fused import FusedColours
from pclkd.pipeline.pretext.base import Facts
from pclkd.pipeline.pretext.vcp import Vcp

__all__ = ["kernels_apart", "kernels_fault"]

_LARGEST, _MEAN = 1.01, 0.25  # levels; colours round to levels, and OpenCV's fixed point to the next one now and then
# Samples, frames, side, strongest blur; the interpreter takes a tenth of a second a tap.
_SIZES = {"cuda": (16, 16, 32, 2.0), "cpu": (2, 4, 8, 0.5)}


def kernels_apart(device: torch.device, dtype: torch.dtype = torch.float32, seed: int = 0) -> dict[str, float]:
    """How far the kernels are from `fused` on a random batch of clips with all augmentation and VCP's transforms.

    Args:
        device: a GPU, or the CPU where TRITON_INTERPRET=1.
        dtype: of the kernels' result.
        seed: of frames and parameters.

    Returns:
        `{rgb,residual}_{mean,largest}`, in levels of a frame: a difference of two may be two levels off, which is told
        as one.

    Raises:
        Exception: Triton is missing or cannot compile or run the kernels, in its own words.
    """
    from pclkd.pipeline.pixels.kernels import KernelColours

    samples, frames, side, sigma = _SIZES[device.type]
    views, ids = 3, np.arange(samples)
    numbers = np.random.default_rng(seed)
    levels = numbers.integers(0, 256, (samples * views * frames, side, side, 3), dtype=np.uint8)
    settings = AugmentSettings(blur_sigma=(0.1, sigma))
    augment = draw(seed, 0, ids, views, np.tile([side, side], (samples, 1)), side, settings)
    asked = Vcp().draw(seed, 0, ids, Facts(np.zeros(samples, np.bool_), np.ones((samples, views), np.int64)))
    kernels, fused = KernelColours((side, side)), FusedColours((side, side), 1)
    found: dict[str, float] = {}
    for name, residual in (("rgb", False), ("residual", True)):
        finish = ClipFinish(asked, residual)
        ours = kernels.apply(torch.from_numpy(levels).to(device), augment, finish, dtype).double().cpu().numpy()
        error = np.abs(ours - fused.apply(levels, augment, finish).double().numpy()) * 255 * np.array(STD)
        error /= 2 if residual else 1
        found |= {f"{name}_mean": float(error.mean()), f"{name}_largest": float(error.max())}
    fused.close()
    return found


@functools.lru_cache
def kernels_fault(device: torch.device) -> str:
    """Why the kernels are not to be used on a device; nothing where they are right."""
    try:
        found = kernels_apart(device)
    except Exception as error:  # whatever a compiler stumbles over, DALI's operators go on
        return f"they fail: {(str(error).strip() or type(error).__name__).splitlines()[0]}"
    off = {name: error for name, error in found.items() if not error < (_MEAN if name.endswith("mean") else _LARGEST)}
    return f"they are off: {', '.join(f'{name} {error:.2f} levels' for name, error in off.items())}" if off else ""
