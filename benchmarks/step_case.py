"""Training steps to be timed: networks, objective and optimiser as the trainer builds them."""

from dataclasses import dataclass

import torch

from pclkd.benchmarks.clip_shape import ClipShape, synchronise
from pclkd.benchmarks.rounds import Work
from pclkd.pipeline.batch import ClipBatch
from pclkd.training.backbones import build_backbone
from pclkd.training.objective import Objective, PclSettings
from pclkd.training.optimizers import OptimizerSettings
from pclkd.training.pcl_model import PclModel
from pclkd.training.precision import Precision
from pclkd.training.step import TrainStep

__all__ = ["UCF101_ROWS", "StepNetworks", "random_batch", "repeated"]

UCF101_ROWS = 9537
"""Training videos of UCF101's split 1."""
_GPU_STEPS = 10  # steps between two waits for the GPU, so that it always has the next one


@dataclass(frozen=True)
class StepNetworks:
    """What is trained.

    Attributes:
        backbone: of the student.
        teacher: backbone of the teacher, or None for PCL alone.
        width: factor on the channel counts of both.
        precision: auto, fp32, fp16 or bf16.
    """

    backbone: str
    teacher: str | None
    width: float
    precision: str = "auto"

    def build(self, rows: int, device: torch.device, *, distil: bool) -> TrainStep:
        """A training step with fresh weights; with `distil` it asks the teacher too.

        Args:
            rows: of a memory bank.
            device: where it runs.
            distil: PCL+KD instead of PCL.

        Raises:
            InputError: an unknown backbone or a precision that the device does not have.
        """
        precision = Precision(self.precision, device)
        student = self._network(self.backbone, device)
        teachers = [self._network(self.teacher, device)] if distil and self.teacher is not None else []
        objective = Objective(student, rows, PclSettings(), 0, teachers=teachers).to(device).train()
        return TrainStep(objective, student, OptimizerSettings(), precision, global_batch=1)

    def _network(self, name: str, device: torch.device) -> PclModel:
        model = PclModel(build_backbone(name, self.width)).to(device)
        return model.to(memory_format=torch.channels_last_3d) if device.type == "cuda" else model


def random_batch(shape: ClipShape, rows: int, device: torch.device) -> ClipBatch:
    """A batch of noise on the device, in the memory layout that the loader delivers."""
    generator = torch.Generator().manual_seed(0)
    b, v, t, side = shape.batch_size, shape.views, shape.frames, shape.side
    frames = torch.randn(b, v, t, side, side, 3, generator=generator).to(device)
    return ClipBatch(
        clips=frames.permute(0, 1, 5, 2, 3, 4),
        pretext_label=torch.randint(5, (b,), generator=generator).to(device),
        sample_index=torch.randperm(rows, generator=generator)[:b].to(device),
        label=torch.zeros(b, dtype=torch.int64, device=device),
        epoch=0,
        valid=b,
    )


def repeated(step: TrainStep, batch: ClipBatch, device: torch.device) -> Work:
    """Steps to be timed, one on the CPU, several between two waits for a GPU; counts samples."""
    steps = _GPU_STEPS if device.type == "cuda" else 1

    def work() -> float:
        for _ in range(steps):
            step(batch)
        synchronise(device)
        return float(steps * len(batch.sample_index))

    return work
