"""Training steps to be timed: built as the trainer's, for batches that lie on the device already."""

import dataclasses
import gc
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal

import torch

from pclkd.benchmarks.measuring.clip_shape import ClipShape, synchronise
from pclkd.benchmarks.measuring.counters import count_operations
from pclkd.benchmarks.measuring.rounds import Work
from pclkd.pipeline.batch import ClipBatch
from pclkd.pipeline.world import World
from pclkd.training.compute.precision import Precision
from pclkd.training.compute.settings import Compile, GpuForms, Layout
from pclkd.training.compute.step import TrainStep
from pclkd.training.loop.build import build_step, make_ready
from pclkd.training.models.memory_layout import arranged
from pclkd.training.models.pcl_model import PclModel
from pclkd.training.models.registry import build_backbone
from pclkd.training.objective.fit import adapter_dims
from pclkd.training.objective.objective import Objective
from pclkd.training.objective.settings import KdSettings
from pclkd.training.runs.teacher_cache import RememberedFeatures
from pclkd.training.settings import RunSettings

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
        gpu_forms: as in a run's settings.
        read_figures: bring the losses to the host after each step.
    """

    precision: str = "auto"
    compile: Compile = "auto"
    fused: bool | None = None
    layout: Layout = "auto"
    clip_by_clip: Literal["none", "student", "teacher"] = "none"
    gpu_forms: GpuForms = "auto"
    read_figures: bool = False


class ClipByClipModel(PclModel):
    """A PclModel whose backbone makes one forward pass for each of a sample's clips."""

    def passes(self, clips: torch.Tensor) -> Iterator[torch.Tensor]:
        """One for each view, in eval mode too."""
        return (arranged(view, self.base_network) for view in torch.split(clips, 1, dim=1))


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

    @property
    def settings(self) -> RunSettings:
        """Of a run that trains so: the trainer's own but for the options."""
        options = self.options
        return RunSettings(layout=options.layout, compile=options.compile, gpu_forms=options.gpu_forms)

    def precision(self, device: torch.device) -> Precision:
        """The arithmetic on that device.

        Raises:
            InputError: the device does not have it.
        """
        return Precision(self.options.precision, device)

    def settled(self, batch: ClipBatch) -> "StepNetworks":
        """The same with compile=auto decided, once for all steps that are built.

        Raises:
            InputError: an unknown backbone, or a precision that the device does not have.
        """
        device = batch.clips.device
        if self.options.compile != "auto":
            return self
        student = self._network(self.backbone, "student")
        return self.varied(compile=make_ready(student, batch.clips.shape, self.precision(device), self.settings))

    def build(
        self,
        batch: ClipBatch,
        rows: int,
        *,
        distil: bool,
        world: World | None = None,
        kd: KdSettings | None = None,
        answers: RememberedFeatures | None = None,
    ) -> TrainStep[Objective]:
        """A training step with fresh weights; with `distil` it asks the teacher too.

        Args:
            batch: one like those that it will get, on their device.
            rows: of a memory bank.
            distil: PCL+KD instead of PCL, where there is a teacher.
            world: the processes.
            kd: what is distilled; by default as a run has it.
            answers: what the teacher says of the videos, where it is not to be asked.

        Raises:
            InputError: an unknown backbone, a precision that the device does not have, or a compiler that fails.
        """
        teaching, pcl, maps = [self.teacher] if distil and self.teacher is not None else [], self.settings.pcl, []
        if kd is not None:
            with torch.device("meta"):  # the student's weights are drawn first, as in a run
                maps = adapter_dims([self._network(name, "teacher") for name in teaching], pcl, kd)
        student = self._network(self.backbone, "student", maps)
        teachers = [self._network(name, "teacher") for name in teaching]
        how: dict[str, Any] = {"teachers": teachers, "kd": kd, "teacher_answers": [answers] * len(teachers)}
        objective = partial(Objective, rows=rows, settings=pcl, seed=0, **how)
        precision = Precision(self.options.precision, batch.clips.device)
        step = build_step(student, objective, batch.clips.shape, precision, self.settings, world)
        if self.options.fused is not None:
            step.optimizer = with_fused(step.optimizer, fused=self.options.fused)
        return step

    def count(self, batch: ClipBatch, rows: int, *, distil: bool) -> float:
        """TFLOP of a step, forward, backward and teacher; makes one, with networks of its own, without folded stems.

        Raises:
            InputError: as `build`.
        """
        step = self.varied(compile="off", gpu_forms="off").build(batch, rows, distil=distil)
        return count_operations(lambda: step(batch))

    def _network(self, name: str, role: Literal["student", "teacher"], maps: Sequence[int] = ()) -> PclModel:
        kind = ClipByClipModel if self.options.clip_by_clip == role else PclModel
        return kind(build_backbone(name, self.width), adapter_dims=maps)


def random_batch(shape: ClipShape, rows: int, device: torch.device, seed: int = 0) -> ClipBatch:
    """A batch of noise on the device, drawn there, in the memory layout that the loader delivers."""
    drawn: dict[str, Any] = {"generator": torch.Generator(device).manual_seed(seed), "device": device}
    b, v, t, side = shape.batch_size, shape.views, shape.frames, shape.side
    return ClipBatch(
        clips=torch.randn(b, v, t, side, side, 3, **drawn).permute(0, 1, 5, 2, 3, 4),
        pretext_label=torch.randint(5, (b,), **drawn),
        sample_index=torch.randperm(rows, **drawn)[:b],
        label=torch.zeros(b, dtype=torch.int64, device=device),
        epoch=0,
        valid=b,
    )


def repeated(
    step: Callable[[ClipBatch], object],
    batch: ClipBatch,
    *,
    options: StepOptions | None = None,
    steps: int = _GPU_STEPS,
) -> Work:
    """Steps to be timed, one on the CPU, several between two waits for a GPU; counts samples."""
    device, how = batch.clips.device, options or StepOptions()
    repeats = steps if device.type == "cuda" else 1

    def work() -> float:
        for _ in range(repeats):
            losses = step(batch)
            if how.read_figures and isinstance(losses, dict):
                torch.stack(list(losses.values())).tolist()
        synchronise(device)
        return float(repeats * len(batch.sample_index))

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
