"""The step with one thing changed does the same work: same losses, same updates, same operations."""

import dataclasses
from typing import Any

import pytest
import torch

from pclkd.benchmarks.measuring.clip_shape import ClipShape
from pclkd.benchmarks.measuring.session import Session
from pclkd.benchmarks.steps.benchmark import StepBenchmark
from pclkd.benchmarks.steps.case import ClipByClipModel, StepNetworks, StepOptions, random_batch
from pclkd.benchmarks.steps.lines import step_lines
from pclkd.benchmarks.steps.teacher import frozen_teacher
from pclkd.pipeline.batch import ClipBatch
from pclkd.training.compute.settings import Layout
from pclkd.training.models.memory_layout import placed
from pclkd.training.models.pcl_model import PclModel
from pclkd.training.models.registry import build_backbone

CPU = torch.device("cpu")
LAYOUTS: tuple[Layout, ...] = ("contiguous", "channels-last")
NETWORKS = StepNetworks("r3d", "r3d", 0.05, StepOptions(precision="fp32", compile="off"))
SHAPE = ClipShape(2, 8, 16)
ROWS = 50


@pytest.fixture
def batch() -> ClipBatch:
    return random_batch(SHAPE, ROWS, CPU)


def losses(networks: StepNetworks, batch: ClipBatch, steps: int = 3) -> torch.Tensor:
    """[steps] of a fresh student."""
    torch.manual_seed(5)
    step = networks.build(batch, ROWS, distil=True)
    return torch.stack([step(batch)["loss"] for _ in range(steps)])


@pytest.mark.parametrize(
    "change", [{"fused": True}, {"fused": False}, {"layout": "channels-last"}, {"layout": "contiguous"}]
)
def test_an_implementation_changes_no_figures(change: dict[str, Any], batch: ClipBatch) -> None:
    """Three updates: the optimiser's momentum counts from the second one on."""
    torch.testing.assert_close(losses(NETWORKS.varied(**change), batch), losses(NETWORKS, batch), rtol=2e-3, atol=1e-3)


def test_a_changed_optimizer_is_really_another_one(batch: ClipBatch) -> None:
    usual = NETWORKS.build(batch, ROWS, distil=False).optimizer
    for fused in (True, False):
        changed = NETWORKS.varied(fused=fused).build(batch, ROWS, distil=False).optimizer
        assert [bool(group["fused"]) for group in changed.param_groups] == [fused]
        for name in ("lr", "momentum", "weight_decay"):
            assert changed.param_groups[0][name] == usual.param_groups[0][name]


def test_one_forward_pass_or_three_give_the_same_features() -> None:
    """In eval mode: batch norm's statistics are those of what it gets at once."""
    model = PclModel(build_backbone("r3d", 0.05)).eval()
    clips = torch.randn(2, 3, 3, 8, 16, 16)
    for layout in LAYOUTS:
        one_by_one = placed(ClipByClipModel(build_backbone("r3d", 0.05)).eval(), CPU, layout)
        one_by_one.load_state_dict(model.state_dict())
        calls: list[torch.Size] = []
        one_by_one.base_network.register_forward_pre_hook(lambda _, inputs, calls=calls: calls.append(inputs[0].shape))
        torch.testing.assert_close(one_by_one.features(clips), model.features(clips), rtol=1e-3, atol=1e-4)
        assert calls == 3 * [torch.Size([2, 3, 8, 16, 16])]


def test_teachers_are_compiled_in_the_mode_that_they_are_asked_in(
    batch: ClipBatch, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []

    def note(model: PclModel, *_: Any, trained: bool, **__: Any) -> str:
        seen.append((trained, model.training))
        return "off"

    monkeypatch.setattr("pclkd.training.loop.build.compile_backbone", note)
    NETWORKS.build(batch, ROWS, distil=True)
    frozen_teacher(NETWORKS, batch)
    assert seen == [(True, True), (False, False), (False, False)]


def test_every_change_is_timed_or_named_with_its_reason() -> None:
    result = StepBenchmark(NETWORKS, SHAPE, options=True).run(Session(1, 0, quick=True))
    measured = {figure.name for figure in result.results}
    limits = set(result.bounding)
    assert result.base == "pcl_kd"
    assert {"pcl", "pcl_kd", "three_forwards", "figures_read_each_step"} <= measured
    choices = {"compile_on", "compile_cuda_graphs", "bf16", "fp16"}
    assert choices <= measured | set(result.missing)
    assert not measured & set(result.missing)
    for figure in result.results:
        assert (figure.bound is None) == (figure.name in limits)
        assert figure.extra["ms_per_step"] == pytest.approx(1000 * SHAPE.batch_size / figure.median)
        if figure.bound:
            # The share of the measured matrix rate, from the operations themselves.
            share = figure.extra["tflop_per_s"] / result[figure.bound].extra["tflop_per_s"]
            assert figure.of_bound_pct == pytest.approx(100 * share)


def test_each_line_changes_one_thing(batch: ClipBatch) -> None:
    trained = NETWORKS.settled(batch)
    lines = step_lines(trained, CPU, fused=True, quick=False)
    assert set(lines.changed) == {
        *("optimizer_not_fused", "channels_last", "three_forwards", "figures_read_each_step"),
        *("three_teacher_forwards", "gpu_forms_on", "bf16", "fp16", "compile_on"),
    }
    before = dataclasses.asdict(trained.options)
    for networks in lines.changed.values():
        after = dataclasses.asdict(networks.options)
        assert sum(before[name] != after[name] for name in before) == 1
        assert dataclasses.replace(networks, options=trained.options) == trained


def test_the_options_change_no_operations(batch: ClipBatch) -> None:
    counted = NETWORKS.count(batch, ROWS, distil=True)
    for change in (
        {"layout": "channels-last"},
        {"clip_by_clip": "student"},
        {"clip_by_clip": "teacher"},
        {"fused": True},
    ):
        assert NETWORKS.varied(**change).count(batch, ROWS, distil=True) == counted
