"""How fast a training step is when its batch lies on the device already: PCL, and PCL with a teacher."""

import statistics
from collections.abc import Mapping
from dataclasses import dataclass

import torch

from pclkd.benchmarks.arithmetic import count_operations, peak_tflop_per_s
from pclkd.benchmarks.clip_shape import ClipShape, synchronise
from pclkd.benchmarks.result import BenchmarkResult, make_result
from pclkd.benchmarks.rounds import Work
from pclkd.benchmarks.session import Session
from pclkd.benchmarks.step_case import UCF101_ROWS, StepNetworks, random_batch, repeated
from pclkd.pipeline.world import World
from pclkd.training.distributed import choose_device
from pclkd.training.precision import Precision, check_conv3d

__all__ = ["StepBenchmark"]


@dataclass(frozen=True)
class StepBenchmark:
    """What is measured: the networks, and the shape of the batch."""

    networks: StepNetworks
    shape: ClipShape

    def run(self, session: Session) -> BenchmarkResult:
        """Measure.

        Raises:
            InputError: an unknown backbone, or arithmetic that this device gets wrong.
        """
        device = choose_device(World())
        precision = Precision(self.networks.precision, device)
        check_conv3d(precision)
        rows = max(UCF101_ROWS, self.shape.batch_size)
        batch = random_batch(self.shape, rows, device)
        cases: dict[str, Work] = {}
        facts: dict[str, dict[str, float]] = {}
        for name in ("pcl", "pcl_kd") if self.networks.teacher else ("pcl",):
            resident = _resident(device)
            step = self.networks.build(rows, device, distil=name == "pcl_kd")
            facts[name] = {"tflop_per_step": count_operations(step, batch)}
            step(batch)  # the optimiser has its state by now, so this one shows the peak
            synchronise(device)
            if device.type == "cuda":
                facts[name]["memory/peak_gib"] = (torch.cuda.max_memory_allocated(device) - resident) / 2**30
            cases[name] = repeated(step, batch, device)
        rates = session.measure(cases)
        peak = peak_tflop_per_s(device, precision.name)
        notes = ["noise on the device: no data is loaded", "memory beside the batch, of one case alone"]
        if peak is not None:
            notes.append(f"MFU: of {peak:.0f} TFLOP/s, the GPU's dense peak in {precision.name}")
        return make_result(
            "step",
            "samples/s",
            rates,
            "pcl",
            {
                "backbone": self.networks.backbone,
                "teacher": self.networks.teacher,
                "width": self.networks.width,
                **self.shape.as_dict(),
                "precision": precision.name,
                "device": device.type,
                "memory_bank_rows": rows,
            },
            extra={
                name: facts[name] | self._speed(statistics.median(rates[name]), facts[name], peak) for name in cases
            },
            notes=notes if device.type == "cuda" else notes[:1],
        )

    def _speed(self, rate: float, facts: Mapping[str, float], peak: float | None) -> dict[str, float]:
        """The median rate (samples/s) in other units."""
        steps = rate / self.shape.batch_size
        speed = {
            "clips_per_s": rate * self.shape.views,
            "ms_per_step": 1000 / steps,
            "tflop_per_s": facts["tflop_per_step"] * steps,
        }
        return speed if peak is None else {**speed, "mfu_pct": 100 * speed["tflop_per_s"] / peak}


def _resident(device: torch.device) -> int:
    """Bytes in use now; the peak is counted from here on."""
    if device.type != "cuda":
        return 0
    torch.cuda.reset_peak_memory_stats(device)
    return int(torch.cuda.memory_allocated(device))
