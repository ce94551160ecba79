"""Training steps to be timed: networks, objective and optimiser as the trainer builds them."""

import dataclasses
import gc
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

import torch

from pclkd.benchmarks.loading.case import ClipShape, synchronise
from pclkd.benchmarks.measuring.counters import count_operations
from pclkd.benchmarks.measuring.rounds import Work
from pclkd.pipeline.batch import ClipBatch
from pclkd.training.compute.precision import Precision, check_conv3d
from pclkd.training.compute.settings import Compile, Layout, OptimizerSettings
from pclkd.training.compute.step import TrainStep
from pclkd.training.models.compilation import compile_backbone
from pclkd.training.models.memory_layout import arranged, placed
from pclkd.training.models.pcl_model import PclModel
from pclkd.training.models.registry import build_backbone
from pclkd.training.objective.objective import Objective, PclSettings

__all__ = [
    "UCF101_ROWS",
    "ClipByClipModel",
    "StepNetworks",
    "StepOptions",
    "memory_in_use",
    "peak_memory",
    "random_batch",
    "repeated",
    "with_fused",
]


@dataclass(frozen=True)
class StepOptions:
    """The choices; by default all are as the trainer makes them on the device.

    Attributes:
        precision: auto, fp32, fp16 or bf16.
        compile: of the student's backbone; auto races on a GPU.
        fused: whether one kernel updates all weights; None: as the trainer has it.
        layout: order of clips and weights in memory.
        clip_by_clip: the network that takes a forward pass for each of a sample's clips, instead of one for all.
        read_figures: bring the losses to the host after each step.
        autotune: let cuDNN try its algorithms (torch.backends.cudnn.benchmark); None: as `choose_device` set it.
    """

    precision: str = "auto"
    compile: Compile = "auto"
    fused: bool | None = None
    layout: Layout = "auto"
    clip_by_clip: Literal["none", "student", "teacher"] = "none"
    read_figures: bool = False
    autotune: bool | None = None


class ClipByClipModel(PclModel):
    """A PclModel whose backbone makes one forward pass for each of a sample's clips."""

    def features(self, clips: torch.Tensor) -> torch.Tensor:
        """As in PclModel: [B, V, C, T, H, W] -> [B, V, F]."""
        passes = [super(ClipByClipModel, self).features(clips[:, [view]]) for view in range(clips.shape[1])]
        return torch.cat(passes, dim=1)


def with_fused(optimizer: torch.optim.Optimizer, *, fused: bool) -> torch.optim.Optimizer:
    """The same fresh optimiser with fused updates, or with torch's default ones."""
    # Each group holds its own copy of every setting, which would win.
    settings = {"fused": fused, "foreach": None}
    groups = [{**group, **settings} for group in optimizer.param_groups]
    return type(optimizer)(groups, **{**optimizer.defaults, **settings})


UCF101_ROWS = 9537
"""Training videos of UCF101's split 1."""
_GPU_STEPS = 10  # steps between two waits for the GPU, so that it always has the next one


@dataclass(frozen=True)
class StepNetworks:
    """What is trained, and how.

    Attributes:
        backbone: of the student.
        teacher: backbone of the teacher, or None for PCL alone.
        width: factor on the channel counts of both.
        options: how a step is carried out.
    """

    backbone: str
    teacher: str | None
    width: float
    options: StepOptions = field(default_factory=StepOptions)

    def varied(self, **changes: Any) -> "StepNetworks":
        """The same with other options."""
        return dataclasses.replace(self, options=dataclasses.replace(self.options, **changes))

    def precision(self, device: torch.device) -> Precision:
        """The arithmetic on that device.

        Raises:
            InputError: the device does not have it, or gets it wrong.
        """
        precision = Precision(self.options.precision, device)
        check_conv3d(precision)
        return precision

    def settled(self, batch: ClipBatch) -> "StepNetworks":
        """The same with compile=auto decided, once for all steps that are built.

        Raises:
            InputError: an unknown backbone, or a precision that the device does not have.
        """
        device = batch.clips.device
        if self.options.compile != "auto":
            return self
        student = self._network(self.backbone, device)
        how = compile_backbone(student, "auto", _backbone_clips(self, batch, student), self.precision(device))
        return self.varied(compile=how)

    def build(self, batch: ClipBatch, rows: int, *, distil: bool) -> TrainStep:
        """A training step with fresh weights; with `distil` it asks the teacher too.

        Args:
            batch: one like those that it will get, on their device.
            rows: of a memory bank.
            distil: PCL+KD instead of PCL.

        Raises:
            InputError: an unknown backbone, a precision that the device does not have, or a compiler that fails.
        """
        device = batch.clips.device
        precision = Precision(self.options.precision, device)
        student = self._network(self.backbone, device, clip_by_clip=self.options.clip_by_clip == "student")
        compile_backbone(student, self.options.compile, _backbone_clips(self, batch, student), precision)
        teachers = []
        if distil and self.teacher is not None:
            teacher = self._network(self.teacher, device, clip_by_clip=self.options.clip_by_clip == "teacher")
            clips = _backbone_clips(self, batch, teacher, "teacher")
            compile_backbone(teacher, self.options.compile, clips, precision, trained=False)
            teachers = [teacher]
        objective = Objective(student, rows, PclSettings(), 0, teachers=teachers).to(device).train()
        step = TrainStep(objective, student, OptimizerSettings(), precision, global_batch=1)
        if self.options.fused is not None:
            step.optimizer = with_fused(step.optimizer, fused=self.options.fused)
        return step

    def count(self, batch: ClipBatch, rows: int, *, distil: bool) -> float:
        """TFLOP of a step, forward, backward and teacher; makes one, with networks of its own.

        Raises:
            InputError: as `build`.
        """
        step = self.varied(compile="off").build(batch, rows, distil=distil)
        return count_operations(lambda: step(batch))

    def _network(self, name: str, device: torch.device, *, clip_by_clip: bool = False) -> PclModel:
        kind = ClipByClipModel if clip_by_clip else PclModel
        return placed(kind(build_backbone(name, self.width)), device, self.options.layout)


def _backbone_clips(
    networks: StepNetworks, batch: ClipBatch, model: PclModel, role: Literal["student", "teacher"] = "student"
) -> torch.Tensor:
    """What a network's backbone will get, as it lies in memory."""
    clips = batch.clips[:, :1] if networks.options.clip_by_clip == role else batch.clips
    return arranged(clips, model.base_network).flatten(0, 1)


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


def repeated(
    step: Callable[[ClipBatch], object],
    batch: ClipBatch,
    *,
    options: StepOptions | None = None,
) -> Work:
    """Steps to be timed, one on the CPU, several between two waits for a GPU; counts samples."""
    device, cudnn, how = batch.clips.device, torch.backends.cudnn, options or StepOptions()
    steps = _GPU_STEPS if device.type == "cuda" else 1

    def work() -> float:
        before = cudnn.benchmark
        if how.autotune is not None:
            cudnn.benchmark = how.autotune
        for _ in range(steps):
            losses = step(batch)
            if how.read_figures and isinstance(losses, dict):
                torch.stack(list(losses.values())).tolist()
        synchronise(device)
        cudnn.benchmark = before
        return float(steps * len(batch.sample_index))

    return work


def memory_in_use(device: torch.device) -> int:
    """Bytes of tensors on a GPU now; 0 on a CPU."""
    if device.type != "cuda":
        return 0
    gc.collect()  # what was built before and is not needed any more
    return int(torch.cuda.memory_allocated(device))


def peak_memory(work: Callable[[], object], before: int, device: torch.device) -> dict[str, float]:
    """GiB that a piece of work takes on a GPU beyond `before`, bytes, by the figure's name; nothing on a CPU.

    Does it twice: an optimiser has its state only after the first time.
    """
    if device.type != "cuda":
        return {}
    work()
    synchronise(device)
    torch.cuda.reset_peak_memory_stats(device)
    work()
    synchronise(device)
    return {"memory/peak_gib": (torch.cuda.max_memory_allocated(device) - before) / 2**30}
