"""The plain loop and this package's step, written apart from each other, make the same update."""

import json
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from torch import nn

from pclkd.benchmarks.cli import main
from pclkd.benchmarks.measuring.clip_shape import ClipShape
from pclkd.benchmarks.measuring.counters import count_operations
from pclkd.benchmarks.steps.case import StepNetworks, StepOptions, random_batch
from pclkd.benchmarks.steps.peers import plain_clips
from pclkd.benchmarks.steps.plain_loop import NEGATIVES, PlainBank, PlainLoop, PlainNetwork
from pclkd.pipeline.batch import ClipBatch
from pclkd.training.compute.precision import Precision
from pclkd.training.compute.settings import OptimizerSettings
from pclkd.training.compute.step import TrainStep
from pclkd.training.models.pcl_model import PclModel
from pclkd.training.models.registry import build_backbone
from pclkd.training.models.torchvision import TorchvisionBackbone
from pclkd.training.objective.bank import nce_indices
from pclkd.training.objective.objective import Objective, PclSettings

CPU = torch.device("cpu")
ROWS = 40
SHAPE = ClipShape(2, 8, 16)


pytestmark = pytest.mark.usefixtures("one_thread")


def copy_weights(ours: PclModel, plain: PlainNetwork) -> None:
    backbone = ours.base_network
    assert isinstance(backbone, TorchvisionBackbone)
    plain.encoder.load_state_dict(
        {backbone.torchvision_key(key): value for key, value in backbone.state_dict().items()}
    )
    plain.pretext.load_state_dict(ours.fc.state_dict())
    plain.projector.load_state_dict(ours.projector.mlp.state_dict())


def copy_banks(state: dict[str, torch.Tensor], banks: tuple[PlainBank, PlainBank]) -> None:
    for bank, name in zip(banks, ("first", "third"), strict=True):
        bank.rows = state[name].clone()


def both(*, distil: bool) -> tuple[TrainStep, Objective, PlainLoop]:
    """Our step and the plain loop with equal weights, banks and negatives."""
    student = PclModel(build_backbone("r3d_18"))
    teachers = [PclModel(build_backbone("r3d_18"))] if distil else []
    objective = Objective(student, ROWS, PclSettings(), 3, teachers=teachers).train()
    step = TrainStep(objective, student, OptimizerSettings(), Precision("fp32", CPU), global_batch=2)
    loop = PlainLoop(ROWS, CPU, distil=distil, negatives=lambda index: nce_indices(3, 0, index, NEGATIVES, ROWS))
    copy_weights(student, loop.network)
    copy_banks(objective.memory_state()["student"], loop.banks)
    if distil:
        copy_weights(teachers[0], loop.teacher)
        copy_banks(objective.memory_state()["teacher"], loop.teacher_banks)
    return step, objective, loop


def without_statistics(network: nn.Module) -> None:
    """Batch norm over three clips at once or over each: let it take the running statistics instead."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm3d):
            module.eval()


def assert_same_steps(step: TrainStep, loop: PlainLoop, batch: ClipBatch, *, steps: int) -> None:
    for _ in range(steps):
        ours, plain = step(batch), loop(plain_clips(batch))
        for name, value in plain.items():
            assert float(ours[name]) == pytest.approx(value, rel=1e-3, abs=1e-4), name


@pytest.mark.parametrize("distil", [False, True])
def test_the_same_losses_three_updates_long(distil: bool) -> None:
    """Later losses are equal only if gradients, momentum and memory banks are."""
    torch.manual_seed(1)
    step, objective, loop = both(distil=distil)
    without_statistics(objective.student)
    without_statistics(loop.network)
    batch = random_batch(SHAPE, ROWS, CPU)
    assert_same_steps(step, loop, batch, steps=3)
    for bank, name in zip(loop.banks, ("first", "third"), strict=True):
        torch.testing.assert_close(objective.memory_state()["student"][name], bank.rows, rtol=1e-3, atol=1e-3)


def test_the_same_losses_with_batch_statistics_where_clips_are_alike() -> None:
    """Then three passes of one clip see the statistics of one pass of three."""
    torch.manual_seed(2)
    step, _, loop = both(distil=False)
    batch = random_batch(SHAPE, ROWS, CPU)
    batch.clips[:] = batch.clips[:, :1].clone()
    assert_same_steps(step, loop, batch, steps=1)


@pytest.mark.parametrize("distil", [False, True])
def test_the_same_operations(distil: bool) -> None:
    batch = random_batch(SHAPE, ROWS, CPU)
    networks = StepNetworks("r3d_18", "r3d_18", 1.0, StepOptions(precision="fp32", compile="off"))
    loop, clips = PlainLoop(ROWS, CPU, distil=distil), plain_clips(batch)
    plain = count_operations(lambda: loop(clips))
    assert networks.count(batch, ROWS, distil=distil) == pytest.approx(plain, rel=0.02)
    # A forward pass more is a third of a step more.
    assert (plain > 1.2 * count_operations(lambda: PlainLoop(ROWS, CPU)(clips))) == distil


def test_amp_differs_by_rounding_alone() -> None:
    """bfloat16 has 8 bits; this CPU's weight gradients in it may be wrong, so one step's losses alone are looked at."""
    clips = plain_clips(random_batch(SHAPE, ROWS, CPU))
    torch.manual_seed(3)
    exact = PlainLoop(ROWS, CPU)
    rough = PlainLoop(ROWS, CPU, amp=torch.bfloat16)
    rough.network.load_state_dict(exact.network.state_dict())
    for one, other in zip(rough.banks, exact.banks, strict=True):
        one.rows = other.rows.clone()
    torch.manual_seed(4)
    wanted = exact(clips)
    torch.manual_seed(4)
    found = rough(clips)
    assert found["loss"] == pytest.approx(wanted["loss"], rel=0.05)
    assert found["loss"] != wanted["loss"]


def run(*arguments: str) -> tuple[int, str]:
    done = CliRunner().invoke(main, ["step", "--peers", *arguments])
    return done.exit_code, done.output


def test_the_command_compares_with_the_plain_loops(tmp_path: Path) -> None:
    file = tmp_path / "r.json"
    small = ["--frames", "8", "--crop", "16", "--batch-size", "2", "--rounds", "1", "--min-seconds", "0"]
    code, output = run(*small, "--json", str(file))
    assert code == 0, output
    content = json.loads(file.read_text())
    figures = {figure["name"]: figure for figure in content["results"]}
    assert content["base"] == "pclkd_r3d_18"
    assert {"pclkd_r3d_18", "torch_loop_fp32", "torch_loop_amp"} <= set(figures) | set(content["missing"])
    ours, plain = figures["pclkd_r3d_18"], figures["torch_loop_fp32"]
    assert plain["extra"]["pclkd_times"] == pytest.approx(ours["median"] / plain["median"])
    assert plain["extra"]["tflop_per_step"] == pytest.approx(ours["extra"]["tflop_per_step"], rel=0.02)
    assert all(figures[name]["bound"].startswith("matrix_limit") for name in ("pclkd_r3d_18", "torch_loop_fp32"))
    assert f"{ours['median'] / plain['median']:.2f} times as fast as torch_loop_fp32" in output


@pytest.mark.parametrize("arguments", [["--options"], ["--backbone", "c3d"], ["--teacher", "r3d"], ["--width", "0.5"]])
def test_what_does_not_go_with_it_is_told_in_a_line(arguments: list[str]) -> None:
    code, output = run(*arguments)
    assert code == 2
    assert arguments[0] in output and "does not go with --peers" in output
    assert len(output.strip().splitlines()) == 1
