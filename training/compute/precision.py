"""The arithmetic of a run: autocast and gradient scaling; `convolutions` checks that the device gets it right."""

from contextlib import AbstractContextManager

import torch

from pclkd.sharding.common.errors import InputError

__all__ = ["Precision"]

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
