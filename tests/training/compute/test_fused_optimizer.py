import copy
import io
from typing import Any

import pytest
import torch

from pclkd.training.compute.fused_optimizer import can_fuse, load_optimizer, start_momentum
from pclkd.training.compute.optimizers import build_optimizer
from pclkd.training.compute.settings import OptimizerSettings

CPU = torch.device("cpu")
DEVICES = [CPU, pytest.param(torch.device("cuda"), marks=pytest.mark.gpu, id="cuda")]


def network(layout: torch.memory_format = torch.contiguous_format, device: torch.device = CPU) -> torch.nn.Module:
    torch.manual_seed(0)
    layers = torch.nn.Sequential(
        torch.nn.Conv3d(3, 4, 3, bias=False), torch.nn.BatchNorm3d(4), torch.nn.Conv3d(4, 2, 1)
    )
    return layers.to(device, memory_format=layout)


def learn(model: torch.nn.Module, optimizer: torch.optim.Optimizer, seeds: range, *, bad: int | None = None) -> None:
    """Updates from given gradients; that of seed `bad` is not finite, and the optimiser is told so."""
    for seed in seeds:
        generator = torch.Generator().manual_seed(seed)
        for weight in model.parameters():
            gradient = torch.randn(weight.shape, generator=generator)
            weight.grad = torch.empty_like(weight).copy_(gradient if seed != bad else gradient * torch.inf)
        if seed == bad:
            optimizer.found_inf = torch.ones((), device=weight.device)  # type: ignore[attr-defined]
        optimizer.step()
        if seed == bad:
            del optimizer.found_inf  # type: ignore[attr-defined]


def weights(model: torch.nn.Module) -> list[torch.Tensor]:
    return [weight.detach().contiguous().cpu() for weight in model.parameters()]


def same(one: torch.nn.Module, other: torch.nn.Module) -> bool:
    return all(torch.allclose(a, b, atol=1e-6) for a, b in zip(weights(one), weights(other), strict=True))


def plain(model: torch.nn.Module, settings: OptimizerSettings) -> torch.optim.Optimizer:
    """torch's own loop over the weights, for comparison."""
    groups: Any = build_optimizer(model, settings, 1).param_groups
    groups = [{name: group[name] for name in ("params", "lr", "weight_decay")} for group in groups]
    if settings.name == "sgd":
        return torch.optim.SGD(groups, momentum=settings.momentum, foreach=False)
    return torch.optim.AdamW(groups, betas=(settings.momentum, 0.999), foreach=False)


@pytest.fixture(params=["sgd", "adamw"])
def settings(request: pytest.FixtureRequest) -> OptimizerSettings:
    return OptimizerSettings.model_validate({"name": request.param, "lr": 0.05, "weight_decay": 0.01})


@pytest.mark.parametrize("device", DEVICES)
def test_a_fused_optimizer_makes_the_updates_of_the_plain_one(
    settings: OptimizerSettings, device: torch.device
) -> None:
    ours, theirs = network(device=device), network(device=device)
    fused = build_optimizer(ours, settings, 1)
    assert all(group["fused"] for group in fused.param_groups)
    learn(ours, fused, range(5))
    learn(theirs, plain(theirs, settings), range(5))
    assert same(ours, theirs)
    assert not same(ours, network(device=device))


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("bad", [0, 2])  # 0: nothing has been remembered by then
def test_an_update_that_is_left_out_leaves_no_trace(
    settings: OptimizerSettings, device: torch.device, bad: int
) -> None:
    whole, gap = network(device=device), network(device=device)
    learn(whole, build_optimizer(whole, settings, 1), range(5), bad=bad)
    optimizer = build_optimizer(gap, settings, 1)
    learn(gap, optimizer, range(bad))
    learn(gap, optimizer, range(bad + 1, 5))
    assert all(torch.equal(a, b) for a, b in zip(weights(whole), weights(gap), strict=True))


@pytest.mark.parametrize("theirs_fused", [True, False])
@pytest.mark.parametrize("layouts", [(0, 0), (0, 1), (1, 0)])
def test_a_state_goes_on_in_another_implementation_and_layout(
    settings: OptimizerSettings, theirs_fused: bool, layouts: tuple[int, int]
) -> None:
    formats = (torch.contiguous_format, torch.channels_last_3d)
    before, after = network(formats[layouts[0]]), network(formats[layouts[1]])
    optimizer = build_optimizer(before, settings, 1) if theirs_fused else plain(before, settings)
    learn(before, optimizer, range(3))
    buffer = io.BytesIO()
    torch.save(optimizer.state_dict(), buffer)
    buffer.seek(0)
    resumed = build_optimizer(after, settings, 1)
    after.load_state_dict(before.state_dict())
    load_optimizer(resumed, torch.load(buffer, weights_only=True))
    assert all(group["fused"] for group in resumed.param_groups)
    learn(before, optimizer, range(3, 6))
    learn(after, resumed, range(3, 6))
    assert same(before, after)


def test_a_plain_optimizer_stays_plain_with_a_fused_state(settings: OptimizerSettings) -> None:
    before, after = network(), network()
    fused, slow = build_optimizer(before, settings, 1), plain(after, settings)
    learn(before, fused, range(3))
    after.load_state_dict(before.state_dict())
    load_optimizer(slow, copy.deepcopy(fused.state_dict()))
    assert not any(group["fused"] for group in slow.param_groups)
    learn(before, fused, range(3, 6))
    learn(after, slow, range(3, 6))
    assert same(before, after)


def test_a_state_of_before_the_first_update_starts_with_no_momentum() -> None:
    model = network()
    optimizer = build_optimizer(model, OptimizerSettings(), 1)
    load_optimizer(optimizer, {**optimizer.state_dict(), "state": {}})
    buffers = [optimizer.state[weight]["momentum_buffer"] for weight in model.parameters()]
    assert not any(buffer.any() for buffer in buffers)
    still = torch.optim.SGD(model.parameters(), lr=0.1, fused=True)
    start_momentum(still)
    assert not still.state


def test_what_can_be_fused() -> None:
    assert can_fuse(torch.optim.SGD, CPU) and can_fuse(torch.optim.AdamW, CPU)
    assert not can_fuse(torch.optim.Rprop, CPU)
    assert not can_fuse(torch.optim.SGD, torch.device("meta"))
