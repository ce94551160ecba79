"""Floating-point operations of a step, and what the device's data sheet promises."""

from collections.abc import Callable

import torch
from torch.utils.flop_counter import FlopCounterMode

__all__ = ["count_operations", "peak_tflop_per_s"]

# Dense bf16 or fp16 tensor-core peak, TFLOP/s. Source: NVIDIA's data sheets of the SXM modules; the PCIe and NVL cards
# of the same names are slower and not listed.
_PEAKS = {"NVIDIA H100 80GB HBM3": 989.0, "NVIDIA H200": 989.0}


def count_operations(work: Callable[[], object]) -> float:
    """TFLOP of a piece of work, such as a step with its teacher and its backward pass; a multiply-add is two.

    Does the work. Counts convolutions and matrix products, which are all but a percent, and those of padded edges too.
    Compiled networks hide theirs.
    """
    with FlopCounterMode(display=False) as counter:
        work()
    return float(counter.get_total_flops()) / 1e12


def peak_tflop_per_s(device: torch.device, precision: str) -> float | None:
    """The device's peak in that precision, None where it is not known here."""
    if device.type != "cuda" or precision not in {"bf16", "fp16"}:
        return None
    return _PEAKS.get(torch.cuda.get_device_name(device))
