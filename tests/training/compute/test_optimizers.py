import io
import math

import numpy as np
import pytest
import torch
from torch.optim.lr_scheduler import CosineAnnealingLR, MultiStepLR, ReduceLROnPlateau

from pclkd.pipeline.batch import ClipBatch
from pclkd.training.compute.optimizers import Lars, build_optimizer
from pclkd.training.compute.precision import Precision
from pclkd.training.compute.schedules import Schedule
from pclkd.training.compute.settings import OptimizerSettings
from pclkd.training.compute.step import TrainStep


def test_lars_against_its_formula_in_float64() -> None:
    generator = torch.Generator().manual_seed(0)
    weight = torch.nn.Parameter(torch.randn(4, 3, generator=generator, dtype=torch.float64))
    bias = torch.nn.Parameter(torch.randn(4, generator=generator, dtype=torch.float64))
    groups = [{"params": [weight]}, {"params": [bias], "adapt": False, "weight_decay": 0.0}]
    optimizer = Lars(groups, lr=0.3, momentum=0.8, weight_decay=0.01, trust=0.02)
    w, b = weight.detach().numpy().copy(), bias.detach().numpy().copy()
    velocity_w, velocity_b = np.zeros_like(w), np.zeros_like(b)
    for _ in range(4):
        weight.grad = torch.randn(4, 3, generator=generator, dtype=torch.float64)
        bias.grad = torch.randn(4, generator=generator, dtype=torch.float64)
        optimizer.step()
        g = weight.grad.numpy() + 0.01 * w
        velocity_w = 0.8 * velocity_w + g * 0.02 * np.linalg.norm(w) / np.linalg.norm(g)
        velocity_b = 0.8 * velocity_b + bias.grad.numpy()
        w, b = w - 0.3 * velocity_w, b - 0.3 * velocity_b
    np.testing.assert_allclose(weight.detach().numpy(), w, rtol=1e-12)
    np.testing.assert_allclose(bias.detach().numpy(), b, rtol=1e-12)


def test_lars_survives_a_weight_and_a_gradient_of_zero() -> None:
    for value, gradient in ((0.0, 1.0), (1.0, 0.0)):
        weight = torch.nn.Parameter(torch.full((2, 2), value))
        weight.grad = torch.full((2, 2), gradient)
        Lars([weight], lr=0.1).step()
        assert weight.isfinite().all()
        assert torch.equal(weight.detach(), torch.full((2, 2), value - 0.1 * gradient))


@pytest.mark.parametrize("name", ["sgd", "adamw", "lars"])
def test_every_optimizer_learns_and_goes_on_from_its_state(name: str) -> None:
    settings = OptimizerSettings.model_validate({"name": name, "lr": 0.1 if name == "lars" else 0.02})

    def fresh() -> tuple[torch.nn.Module, torch.optim.Optimizer]:
        torch.manual_seed(0)
        network = torch.nn.Sequential(torch.nn.Linear(6, 16), torch.nn.BatchNorm1d(16), torch.nn.Linear(16, 1))
        return network, build_optimizer(network, settings, 16)

    x = torch.randn(32, 6, generator=torch.Generator().manual_seed(1))
    y = x[:, :1] * 2 - x[:, 1:2]

    def descend(network: torch.nn.Module, optimizer: torch.optim.Optimizer, steps: int) -> float:
        for _ in range(steps):
            loss = (network(x) - y).square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        return float(loss.detach())

    network, optimizer = fresh()
    first = descend(network, optimizer, 1)
    descend(network, optimizer, 30)
    half = {k: v.clone() for k, v in network.state_dict().items()}
    buffer = io.BytesIO()
    torch.save(optimizer.state_dict(), buffer)
    end = descend(network, optimizer, 100)
    # A layer of LARS moves by about a thousandth of itself a step.
    assert end < (0.9 if name == "lars" else 0.2) * first
    other, resumed = fresh()
    other.load_state_dict(half)
    buffer.seek(0)
    resumed.load_state_dict(torch.load(buffer, weights_only=True))
    assert descend(other, resumed, 100) == end


def test_decay_leaves_biases_and_norms_alone() -> None:
    network = torch.nn.Sequential(torch.nn.Conv3d(1, 2, 1), torch.nn.BatchNorm3d(2))
    groups = build_optimizer(network, OptimizerSettings(name="adamw", weight_decay=0.1), 1).param_groups
    assert [(len(group["params"]), group["weight_decay"]) for group in groups] == [(1, 0.1), (3, 0.0)]


@pytest.mark.parametrize(
    ("reference", "batch", "expected"), [(0, 999, 0.01), (16, 16, 0.01), (16, 64, 0.04), (16, 8, 0.005)]
)
def test_the_rate_is_linear_in_the_global_batch_where_a_reference_is_set(
    reference: int, batch: int, expected: float
) -> None:
    assert OptimizerSettings(reference_batch=reference).scaled_lr(batch) == pytest.approx(expected)


# --- schedules ------------------------------------------------------------------------------------------------------


def dummy(lr: float = 0.5) -> torch.optim.Optimizer:
    return torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=lr)


@pytest.mark.parametrize("name", ["cosine", "step", "plateau"])
def test_schedules_by_epoch_are_those_of_torch(name: str) -> None:
    settings = OptimizerSettings.model_validate({"schedule": name, "patience": 2, "milestones": (0.3, 0.8)})
    schedule, theirs = Schedule(dummy(), settings, 10, 4), dummy()
    judge = {
        "cosine": CosineAnnealingLR(theirs, T_max=10),
        "step": MultiStepLR(theirs, milestones=[3, 8], gamma=0.1),
        "plateau": ReduceLROnPlateau(theirs, factor=0.1, patience=2),
    }[name]
    losses = [5, 4, 4, 4, 4, 4, 3, 3, 3, 3]
    for epoch, loss in enumerate(losses):
        for step in range(4):
            assert schedule.before_step(epoch, step) == pytest.approx(theirs.param_groups[0]["lr"], rel=1e-9)
        schedule.after_epoch(loss)
        theirs.step()
        judge.step(loss) if isinstance(judge, ReduceLROnPlateau) else judge.step()


def test_warm_up_rises_step_by_step_and_a_resumed_schedule_goes_on() -> None:
    settings = OptimizerSettings(warmup_epochs=2, schedule="plateau", patience=1)
    optimizer = dummy(1.0)
    schedule = Schedule(optimizer, settings, 10, 5)
    rates = [schedule.before_step(epoch, step) for epoch in range(3) for step in range(5)]
    assert rates == pytest.approx([0.01 + 0.099 * step for step in range(10)] + [1.0] * 5)
    assert optimizer.param_groups[0]["lr"] == 1.0
    for loss in (3, 3, 3, 3):
        schedule.after_epoch(loss)
    other = Schedule(dummy(1.0), settings, 10, 5)
    other.load_state_dict(schedule.state_dict())
    assert other.before_step(5, 0) == schedule.before_step(5, 0) == pytest.approx(0.1)
    for loss in (3, 3, 3, 3):
        schedule.after_epoch(loss)
        other.after_epoch(loss)
    assert other.before_step(9, 0) == schedule.before_step(9, 0) == pytest.approx(0.001)


# --- the step ---------------------------------------------------------------------------------------------------------


class Squares(torch.nn.Module):
    """Mean squared output; reports a second figure for some batches alone."""

    def __init__(self, network: torch.nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, batch: ClipBatch) -> dict[str, torch.Tensor]:
        loss = self.network(batch.clips.flatten(1)).square().mean()
        return {"loss": loss, **({"odd": loss.detach() * 0 + 7} if batch.epoch % 2 else {})}


def batch(values: torch.Tensor, epoch: int = 0) -> ClipBatch:
    zeros = torch.zeros(len(values), dtype=torch.int64)
    return ClipBatch(values.reshape(-1, 1, 1, 1, 1, 6), zeros, zeros, zeros, epoch, len(values))


def linear() -> torch.nn.Module:
    torch.manual_seed(3)
    return torch.nn.Linear(6, 2)


def test_accumulated_batches_make_the_update_of_the_whole_one() -> None:
    values = torch.randn(12, 6, generator=torch.Generator().manual_seed(0))
    networks = []
    for parts in (1, 3):
        network = linear()
        step = TrainStep(
            Squares(network), network, OptimizerSettings(lr=0.1), Precision("fp32", torch.device("cpu")), 12
        )
        for _ in range(3):
            losses = step(*(batch(part) for part in values.chunk(parts)))
        networks.append((network.weight.detach(), float(losses["loss"])))
    torch.testing.assert_close(networks[0][0], networks[1][0])
    assert networks[0][1] == pytest.approx(networks[1][1], rel=1e-5)


def test_figures_are_means_over_the_batches_that_have_them() -> None:
    network = linear()
    step = TrainStep(Squares(network), network, OptimizerSettings(), Precision("fp32", torch.device("cpu")), 4)
    assert set(step(batch(torch.ones(2, 6), 0))) == {"loss"}
    assert float(step(batch(torch.ones(2, 6), 0), batch(torch.ones(2, 6), 1))["odd"]) == 7


def test_clipping_bounds_the_norm_of_the_whole_gradient() -> None:
    values = 100 * torch.ones(2, 6)
    moved = []
    for clip in (0.0, 0.5, 1e9):
        network = linear()
        before = [p.detach().clone() for p in network.parameters()]
        settings = OptimizerSettings(lr=1.0, momentum=0, weight_decay=0, clip_norm=clip)
        TrainStep(Squares(network), network, settings, Precision("fp32", torch.device("cpu")), 2)(batch(values))
        pairs = zip(network.parameters(), before, strict=True)
        moved.append(math.sqrt(sum(float((p.detach() - q).square().sum()) for p, q in pairs)))
    assert moved[0] == pytest.approx(moved[2])
    assert moved[0] > 10
    assert moved[1] == pytest.approx(0.5, rel=1e-3)


@pytest.mark.parametrize("name", ["sgd", "adamw", "lars"])
def test_a_gradient_that_is_not_finite_is_skipped_whole_when_asked(name: str) -> None:
    settings = OptimizerSettings.model_validate({"name": name, "lr": 0.1})
    good = [batch(torch.randn(4, 6, generator=torch.Generator().manual_seed(seed))) for seed in range(2)]
    values = torch.ones(4, 6)
    values[2, 3] = math.nan
    bad = batch(values)

    def run(*batches: ClipBatch) -> tuple[TrainStep, dict[str, torch.Tensor]]:
        torch.manual_seed(3)
        network = torch.nn.Sequential(torch.nn.BatchNorm1d(6), torch.nn.Linear(6, 2))
        step = TrainStep(
            Squares(network), network, settings, Precision("fp32", torch.device("cpu")), 4, skip_non_finite=True
        )
        for one in batches:
            assert (float(step(one)["loss"]) < math.inf) == (one is not bad)
        return step, network.state_dict()

    step, skipped = run(bad, good[0], bad, bad, good[1])
    assert step.skipped == 3
    step, without = run(*good)
    assert step.skipped == 0
    # Weights, statistics, and through the later updates the optimiser's memory too.
    assert all(torch.equal(value, without[name]) for name, value in skipped.items())
    assert all(value.isfinite().all() for value in skipped.values())
    assert not torch.equal(without["1.weight"], run(good[0])[1]["1.weight"])


@pytest.mark.parametrize("clip", [0.0, 1e-3])
@pytest.mark.parametrize("name", ["sgd", "adamw", "lars"])
def test_a_loss_scaled_too_far_costs_one_update_and_no_wait(name: str, clip: float) -> None:
    settings = OptimizerSettings.model_validate({"name": name, "lr": 0.1, "clip_norm": clip})
    good = batch(100 * torch.randn(4, 6, generator=torch.Generator().manual_seed(0)))

    def run(scaler: torch.amp.GradScaler, steps: int) -> list[torch.Tensor]:
        network = linear()
        precision = Precision("fp32", torch.device("cpu"))
        precision.scaler = scaler
        step = TrainStep(Squares(network), network, settings, precision, 4)
        for _ in range(steps):
            step(good)
        return [weight.detach() for weight in network.parameters()]

    plain = run(torch.amp.GradScaler("cpu", enabled=False), 2)
    scaled = run(torch.amp.GradScaler("cpu", init_scale=2.0**10), 2)
    too_far = run(torch.amp.GradScaler("cpu", init_scale=2.0**127, backoff_factor=2.0**-110), 3)
    for exact, one, other in zip(plain, scaled, too_far, strict=True):
        torch.testing.assert_close(one, exact)
        torch.testing.assert_close(other, exact)
