"""The arithmetic of a run: autocast, gradient scaling, and a check of the convolution."""

import math
from contextlib import AbstractContextManager, nullcontext

import torch
import torch.nn.functional as F

from pclkd.sharding.common.errors import InputError

__all__ = ["Precision", "check_conv3d"]

_TYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}


# Channels and [N, T, H, W] of the convolutions that are checked: a wide one, and one on the small maps of late stages.
_CHECKED = ((64, (2, 8, 28, 28)), (32, (12, 2, 4, 4)))
_TURNS = 8


class Precision:
    """Resolved arithmetic of a device.

    Args:
        name: auto, fp32, fp16 or bf16.
        device: where the networks run.

    Attributes:
        name: fp32, fp16 or bf16.
        scaler: scales losses in fp16, passes them through else.

    Raises:
        InputError: fp16 on a CPU.
    """

    def __init__(self, name: str, device: torch.device) -> None:
        if name == "auto":
            if device.type != "cuda":
                name = "fp32"
            else:
                name = "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"
        if name == "fp16" and device.type != "cuda":
            raise InputError("precision=fp16 needs a GPU, and this process has none", remedy="use precision=auto")
        self.name = name
        self.device = device
        self.scaler = torch.amp.GradScaler(device.type, enabled=name == "fp16")

    def autocast(self) -> AbstractContextManager[None]:
        """A context in which networks compute in this precision."""
        return torch.autocast(self.device.type, _TYPES[self.name], enabled=self.name != "fp32")


def check_conv3d(precision: Precision) -> None:
    """Compare 3-D convolutions and their weight gradients with float32, and refuse to train when they are off.

    cuDNN 9.8 to 9.10 computed conv3d in bfloat16 wrongly without a word. oneDNN (torch 2.14.1, on a CPU with
    avx512_bf16) gives a weight gradient of small maps that changes from call to call, now and then infinite.

    Raises:
        InputError: a relative error passes 3 %.
    """
    if precision.name == "fp32":
        return
    generator = torch.Generator(precision.device).manual_seed(0)
    for channels, shape in _CHECKED if precision.device.type == "cuda" else _CHECKED[1:]:
        for what, error in _conv3d_errors(precision, channels, shape, generator).items():
            if not error < 0.03:
                library = "oneDNN"
                if precision.device.type == "cuda":
                    library = f"cuDNN {torch.backends.cudnn.version()}"  # type: ignore[no-untyped-call]
                raise InputError(
                    f"{what} of conv3d in {precision.name} is off by {100 * error:.1f} % here ({library})",
                    remedy="use --set precision=fp32 or another version of torch",
                )


def _conv3d_errors(
    precision: Precision, channels: int, shape: tuple[int, ...], generator: torch.Generator
) -> dict[str, float]:
    """The worst of a few turns, relative to float32."""
    clips = torch.randn(shape[0], channels, *shape[1:], device=precision.device, generator=generator)
    start = torch.randn(channels, channels, 3, 3, 3, device=precision.device, generator=generator)
    start /= (27 * channels) ** 0.5
    worst = {"the output": 0.0, "the weight gradient": 0.0}
    exact: list[torch.Tensor] = []
    for turn in range(1 + _TURNS):
        weight = start.clone().requires_grad_()
        with precision.autocast() if turn else nullcontext():
            output = F.conv3d(clips, weight, padding=1).float()
        output.square().mean().backward()  # type: ignore[no-untyped-call]
        assert weight.grad is not None
        found = [output.detach(), weight.grad]
        if not turn:
            exact = found
            continue
        for name, rough, true in zip(worst, found, exact, strict=True):
            error = ((rough - true).norm() / true.norm()).item()
            worst[name] = max(worst[name], error if math.isfinite(error) else math.inf)
    return worst
