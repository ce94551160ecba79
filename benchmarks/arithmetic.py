"""Floating-point operations of a step, and what the device could do at best."""

import torch
from torch.utils.flop_counter import FlopCounterMode

from pclkd.pipeline.batch import ClipBatch
from pclkd.training.step import TrainStep

__all__ = ["count_operations", "peak_tflop_per_s"]

# Dense bf16 or fp16 tensor-core peak, TFLOP/s. Source: NVIDIA's data sheets of the SXM modules; the PCIe and NVL cards
# of the same names are slower and not listed.
_PEAKS = {"NVIDIA H100 80GB HBM3": 989.0, "NVIDIA H200": 989.0}


def count_operations(step: TrainStep, batch: ClipBatch) -> float:
    """TFLOP of one training step, forward, backward and teacher; a multiply-add is two operations.

    Makes the step. Counts convolutions and matrix products, which are all but a percent.
    """
    with FlopCounterMode(display=False) as counter:
        step(batch)
    return float(counter.get_total_flops()) / 1e12


def peak_tflop_per_s(device: torch.device, precision: str) -> float | None:
    """The device's peak in that precision, None where it is not known here."""
    if device.type != "cuda" or precision not in {"bf16", "fp16"}:
        return None
    return _PEAKS.get(torch.cuda.get_device_name(device))
