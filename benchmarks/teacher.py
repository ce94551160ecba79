"""What the teacher costs: its logits are computed on the fly, in every step."""

import statistics
from dataclasses import dataclass

import torch
from torch.utils.flop_counter import FlopCounterMode

from pclkd.benchmarks.arithmetic import count_operations
from pclkd.benchmarks.clip_shape import ClipShape, synchronise
from pclkd.benchmarks.result import BenchmarkResult, make_result
from pclkd.benchmarks.rounds import Work, summarise
from pclkd.benchmarks.session import Session
from pclkd.benchmarks.step_case import UCF101_ROWS, StepNetworks, random_batch, repeated
from pclkd.pipeline.batch import ClipBatch
from pclkd.pipeline.world import World
from pclkd.training.backbones import build_backbone
from pclkd.training.distributed import choose_device
from pclkd.training.pcl_model import PclModel
from pclkd.training.precision import Precision, check_conv3d

__all__ = ["TeacherBenchmark"]


@dataclass(frozen=True)
class TeacherBenchmark:
    """What is measured: the networks, and the shape of the batch."""

    networks: StepNetworks
    shape: ClipShape

    def run(self, session: Session) -> BenchmarkResult:
        """Measure steps without and with the teacher, and the teacher's forward pass alone.

        Raises:
            InputError: an unknown backbone, or arithmetic that this device gets wrong.
        """
        device = choose_device(World())
        precision = Precision(self.networks.precision, device)
        check_conv3d(precision)
        rows = max(UCF101_ROWS, self.shape.batch_size)
        batch = random_batch(self.shape, rows, device)
        steps = {name: self.networks.build(rows, device, distil=name == "pcl_kd") for name in ("pcl", "pcl_kd")}
        work = {name: count_operations(step, batch) for name, step in steps.items()}
        teacher = _Teacher(self.networks, precision, device)
        work["teacher_forward"] = teacher.count(batch)
        cases: dict[str, Work] = {name: repeated(step, batch, device) for name, step in steps.items()}
        cases["teacher_forward"] = teacher.repeated(batch)
        rates = session.measure(cases)
        # Round by round, so that a busy moment meets both.
        overhead = [100 * (alone / taught - 1) for alone, taught in zip(rates["pcl"], rates["pcl_kd"], strict=True)]
        share = 100 * (work["pcl_kd"] / work["pcl"] - 1)
        extra = {name: {"tflop_per_step": tflop} for name, tflop in work.items()}
        extra["pcl_kd"] |= {
            "overhead_pct": statistics.median(overhead),
            "flop_share_pct": share,
            "overhead_over_flop_share": statistics.median(overhead) / share,
        }
        speed = {name: summary.median for name, summary in summarise(rates, "pcl").items()}
        for name in work:
            extra[name]["ms_per_step"] = 1000 * self.shape.batch_size / speed[name]
        return make_result(
            "teacher",
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
            },
            extra=extra,
            notes=[
                "overhead_pct: by how much longer a step takes with the teacher, median over the rounds",
                "flop_share_pct: by how much more is computed: its forward pass over the same clips, without backward",
                "noise on the device: no data is loaded",
            ],
        )


class _Teacher:
    """A frozen network's forward pass, as the objective asks for it."""

    def __init__(self, networks: StepNetworks, precision: Precision, device: torch.device) -> None:
        name = networks.teacher or networks.backbone
        self._model = PclModel(build_backbone(name, networks.width)).to(device).requires_grad_(False).eval()
        if device.type == "cuda":
            self._model = self._model.to(memory_format=torch.channels_last_3d)
        self._precision, self._device = precision, device

    def count(self, batch: ClipBatch) -> float:
        """TFLOP of a pass."""
        with FlopCounterMode(display=False) as counter:
            self._ask(batch)
        return float(counter.get_total_flops()) / 1e12

    def repeated(self, batch: ClipBatch) -> Work:
        """Passes to be timed."""

        def work() -> float:
            self._ask(batch)
            synchronise(self._device)
            return float(len(batch.sample_index))

        return work

    @torch.inference_mode()
    def _ask(self, batch: ClipBatch) -> None:
        with self._precision.autocast():
            self._model(batch.clips)
