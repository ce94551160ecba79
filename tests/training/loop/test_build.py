"""What is timed is what runs: the trainer and the benchmarks build one step, whose compiler sees what training sees."""

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Literal

import pytest
import torch
import torch.distributed as dist

from pclkd.benchmarks.steps.case import StepNetworks, StepOptions
from pclkd.pipeline.batch import ClipBatch
from pclkd.pipeline.loader.stages import Pass, Stages
from pclkd.pipeline.world import World
from pclkd.training.compute.precision import Precision
from pclkd.training.compute.settings import Layout, OptimizerSettings
from pclkd.training.compute.step import TrainStep
from pclkd.training.loop import trainer
from pclkd.training.loop.build import build_step
from pclkd.training.loop.plan import plan_run
from pclkd.training.loop.trainer import train
from pclkd.training.models.base import Backbone
from pclkd.training.models.pcl_model import PclModel
from pclkd.training.objective.objective import Objective, PclSettings
from pclkd.training.runs.checkpoint import load_checkpoint
from pclkd.training.settings import RunSettings, override, preset

pytestmark = pytest.mark.usefixtures("one_thread")

CPU = torch.device("cpu")
TINY = [
    *("backbone.width=0.125", "tuples.clip_frames=8", "tuples.clip_stride=12", "tuples.remote_distance=8"),
    *("loader.crop=32", "loader.batch_size=4", "loader.threads=1", "evaluation.every=0", "log_every=1"),
]
TERMS = ("loss", "pretext", "contrast", "kd_pretext", "kd_contrast")


@pytest.mark.parametrize("layout", ["contiguous", "channels-last"])
def test_the_steps_of_trainer_and_benchmark_give_the_same_losses_bit_for_bit(
    layout: Layout, synthetic_shards: Path, tmp_path: Path
) -> None:
    settings = override(preset("pcl"), [*TINY, f"layout={layout}", "epochs=1"])
    untrained = override(settings, ["epochs=0", "backbone.name=c3d", "seed=3"])
    train(plan_run(tmp_path / "teacher", synthetic_shards, untrained))
    plan = plan_run(tmp_path / "run", synthetic_shards, settings, teachers=[tmp_path / "teacher"])
    train(plan)
    lines = map(json.loads, (tmp_path / "run" / "metrics.jsonl").read_text().splitlines())
    trained = [[line[term] for term in TERMS] for line in lines if line["kind"] == "step"]
    teacher = load_checkpoint(tmp_path / "teacher")
    networks = StepNetworks("r3d", "c3d", 0.125, StepOptions(layout=layout))
    with plan.loader(CPU) as loader:
        batches = list(loader.epoch(0))
    torch.manual_seed(settings.seed)
    step = networks.build(batches[0], len(plan.samples), distil=True)
    # A benchmark's teacher is fresh, the trainer's is a run with its memory.
    step.objective.teachers[0].load_state_dict(teacher.model)
    step.objective.load_memory_state({**step.objective.memory_state(), "teacher": teacher.memory["student"]})
    timed = [[float(losses[term]) for term in TERMS] for losses in map(step, batches)]
    assert len(timed) == 3
    assert timed == trained
    asked = step.objective.teachers[0]
    assert not any(module.training for module in asked.modules())
    for name, value in asked.state_dict().items():
        assert torch.equal(value, teacher.model[name]), name


class Noting(Backbone):
    """A convolution and its norm that tell how clips come; a compiler leaves them as they are, and needs no tools."""

    feature_dim = 8

    def __init__(self, note: Callable[[object], None]) -> None:
        super().__init__()
        self.conv, self.norm, self.note = torch.nn.Conv3d(3, 8, 3, stride=4), torch.nn.BatchNorm3d(8), note

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def forward(self, clips: torch.Tensor) -> torch.Tensor:
        self.note((list(clips.shape), clips.stride(), self.training, torch.is_inference_mode_enabled()))
        features: torch.Tensor = self.norm(self.conv(clips))
        return features.mean(dim=(2, 3, 4))


@pytest.mark.parametrize("layout", ["contiguous", "channels-last"])
@pytest.mark.parametrize("forwards", ["joint", "each"])
def test_the_compiler_sees_the_clips_that_training_sees(forwards: Literal["joint", "each"], layout: Layout) -> None:
    shape, number = (2, 3, 3, 8, 16, 16), torch.arange(2)
    seen: dict[str, list[object]] = {"student": [], "teacher": []}
    student = PclModel(Noting(seen["student"].append), embedding_dim=16, forwards=forwards)
    teacher = PclModel(Noting(seen["teacher"].append), embedding_dim=16, forwards=forwards)
    before = {name: value.clone() for name, value in teacher.state_dict().items()}
    pcl = PclSettings(negatives=8, embedding_dim=16)
    objective = partial(Objective, rows=9, settings=pcl, seed=0, teachers=[teacher])
    how = OptimizerSettings(reference_batch=16, accumulate=2)
    settings = RunSettings(optimizer=how, layout=layout, compile="on")
    step = build_step(student, objective, shape, Precision("fp32", CPU), settings)
    assert step.lr == how.lr * 4 / 16
    compiled = {name: seen[name].copy() for name in seen}
    for _ in range(2):
        step(ClipBatch(torch.randn(shape), number, number, number, epoch=1, valid=2))
    strides = (6144, 2048, 256, 16, 1) if layout == "contiguous" else (6144, 1, 768, 48, 3)
    passes = {"student": 2 if forwards == "each" else 6, "teacher": 6}
    for name, clips in passes.items():
        taught = name == "teacher"
        expected = ([clips, 3, 8, 16, 16], strides, not taught, taught)
        assert compiled[name] and seen[name][len(compiled[name]) :]
        assert all(found == expected for found in seen[name])
    assert all(torch.equal(value, before[name]) for name, value in teacher.state_dict().items())  # whoever compiled it


class NotingNorm(Backbone):
    """Tells which batch norm it has, and whether a compiler is to see it; computes nothing of it."""

    feature_dim = 8

    def __init__(self, note: Callable[[object], None]) -> None:
        super().__init__()
        self.conv, self.norm, self.note = torch.nn.Conv3d(3, 8, 3, stride=4), torch.nn.BatchNorm3d(8), note

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def forward(self, clips: torch.Tensor) -> torch.Tensor:
        self.note(type(self.norm))
        features: torch.Tensor = self.conv(clips)
        return features.mean(dim=(2, 3, 4)) * self.norm.weight + self.norm.bias


def test_the_compiler_sees_the_batch_norm_that_trains() -> None:
    seen: list[object] = []
    student = PclModel(NotingNorm(seen.append), embedding_dim=16)
    objective = partial(Objective, rows=9, settings=PclSettings(negatives=8, embedding_dim=16), seed=0)
    settings = RunSettings(sync_batch_norm=True, compile="on")
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    try:
        # Before the processes are wrapped, which is where torch says that there is no GPU.
        with pytest.raises(ValueError, match="SyncBatchNorm layers only work with GPU modules"):
            build_step(student, objective, (2, 3, 3, 8, 16, 16), Precision("fp32", CPU), settings, World(0, 2, 0, 2))
    finally:
        dist.destroy_process_group()
    assert seen and set(seen) == {torch.nn.SyncBatchNorm}


def test_the_first_batches_are_read_while_the_step_is_put_together(
    synthetic_shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At the start and where a run goes on: from the place where it goes on."""
    begun, read = [], []

    def noting(*given: object) -> TrainStep[Objective]:
        begun.append(len(read))
        return build_step(*given)  # type: ignore[arg-type]

    monkeypatch.setattr(trainer, "build_step", noting)
    begin = Stages.__init__

    def counting(stages: Stages, preparer: object, decoder: object, todo: Pass, *others: object) -> None:
        read.append((todo.epoch, len(todo.positions())))
        begin(stages, preparer, decoder, todo, *others)  # type: ignore[arg-type]

    monkeypatch.setattr(Stages, "__init__", counting)
    settings = override(preset("pcl"), [*TINY, "epochs=1", "pcl.bank_start=random"])
    train(plan_run(tmp_path / "run", synthetic_shards, settings, max_steps=1))
    assert (begun, read) == ([1], [(0, 3)])
    train(plan_run(tmp_path / "run", synthetic_shards, settings, resume=True))
    assert begun == [1, 2] and read[1] == (0, 2)
