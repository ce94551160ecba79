"""The arithmetic of a run: autocast, gradient scaling, and a check of the convolution."""

from contextlib import AbstractContextManager

import torch
import torch.nn.functional as F

from pclkd.sharding.errors import InputError

__all__ = ["Precision", "check_conv3d"]

_TYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}


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
    """Compare one 3-D convolution with float32 and refuse to train when it is off.

    cuDNN 9.8 to 9.10 computed conv3d in bfloat16 wrongly without a word.

    Raises:
        InputError: the relative error passes 3 %.
    """
    if precision.device.type != "cuda" or precision.name == "fp32":
        return
    generator = torch.Generator(precision.device).manual_seed(0)
    clips = torch.randn(2, 64, 8, 28, 28, device=precision.device, generator=generator)
    weight = torch.randn(64, 64, 3, 3, 3, device=precision.device, generator=generator) / 41.6
    with torch.no_grad():
        exact = F.conv3d(clips, weight, padding=1)
        with precision.autocast():
            rough = F.conv3d(clips, weight, padding=1).float()
    error = ((rough - exact).norm() / exact.norm()).item()
    if not error < 0.03:
        version = torch.backends.cudnn.version()  # type: ignore[no-untyped-call]
        raise InputError(
            f"conv3d in {precision.name} is off by {100 * error:.1f} % here (cuDNN {version})",
            remedy="use --set precision=fp32 or another cuDNN",
        )
