import copy

import pytest
import torch

from pclkd.training.compute.settings import Layout
from pclkd.training.models.memory_layout import arranged, layout_of, placed
from pclkd.training.models.pcl_model import PclModel
from pclkd.training.models.registry import build_backbone

CPU = torch.device("cpu")
LAST, CONTIGUOUS = torch.channels_last_3d, torch.contiguous_format


def networks() -> torch.nn.Module:
    torch.manual_seed(0)
    return torch.nn.Sequential(
        torch.nn.Conv3d(3, 4, 3), torch.nn.BatchNorm3d(4), torch.nn.Conv3d(4, 2, 1), torch.nn.Conv2d(3, 5, 3)
    )


def test_only_3d_convolutions_are_rearranged_and_all_numbers_stay() -> None:
    network, before = placed(networks(), CPU, "channels-last"), networks()
    assert all(torch.equal(a, b) for a, b in zip(network.parameters(), before.parameters(), strict=True))
    convolution = network[0].weight
    assert convolution.is_contiguous(memory_format=LAST) and not convolution.is_contiguous()
    assert network[3].weight.is_contiguous()
    clips = torch.randn(2, 3, 4, 8, 8).to(memory_format=LAST)
    said = network[0](clips)
    torch.testing.assert_close(said, before[0](clips))
    said.sum().backward()
    assert network[0].weight.grad is not None and network[0].weight.grad.stride() == convolution.stride()


@pytest.mark.parametrize(
    ("layout", "lies"), [("auto", CONTIGUOUS), ("contiguous", CONTIGUOUS), ("channels-last", LAST)]
)
def test_the_layout_of_a_network_is_that_of_its_convolutions(layout: Layout, lies: torch.memory_format) -> None:
    network = networks()
    assert placed(network, CPU, layout) is network
    assert layout_of(network) is lies
    assert layout_of(torch.nn.Linear(3, 4)) is CONTIGUOUS


@pytest.mark.parametrize("layout", ["contiguous", "channels-last"])
def test_clips_come_as_the_network_wants_them_and_those_that_do_are_not_copied(layout: Layout) -> None:
    network = placed(networks(), CPU, layout)
    contiguous = torch.randn(2, 3, 3, 4, 8, 8)
    loaded = torch.randn(2, 3, 4, 8, 8, 3).permute(0, 1, 5, 2, 3, 4)  # as the loader's lie
    for clips in (contiguous, loaded):
        found = arranged(clips, network)
        assert torch.equal(found, clips)
        assert found.flatten(0, 1).is_contiguous(memory_format=layout_of(network))
    own = contiguous if layout == "contiguous" else loaded
    assert arranged(own, network).data_ptr() == own.data_ptr()


@pytest.mark.parametrize("name", ["r3d", "c3d", "r2plus1d"])
def test_a_network_says_the_same_in_either_layout(name: str) -> None:
    torch.manual_seed(1)
    model = PclModel(build_backbone(name, 0.05)).eval()
    other = placed(copy.deepcopy(model), CPU, "channels-last")
    assert layout_of(other.base_network) is LAST and layout_of(model.base_network) is CONTIGUOUS
    clips = torch.randn(2, 8, 16, 16, 3, 3).permute(0, 5, 4, 1, 2, 3)
    torch.testing.assert_close(other(clips).first, model(clips).first, rtol=1e-4, atol=1e-5)
    weights = [weight.grad for model_ in (model, other) for weight in _learned(model_, clips)]
    half = len(weights) // 2
    for one, two in zip(weights[:half], weights[half:], strict=True):
        torch.testing.assert_close(one, two, rtol=1e-3, atol=1e-4)


def _learned(model: PclModel, clips: torch.Tensor) -> list[torch.nn.Parameter]:
    model(clips).first.square().sum().backward()
    return [weight for weight in model.parameters() if weight.grad is not None]


@pytest.mark.parametrize("layout", ["contiguous", "channels-last"])
@pytest.mark.parametrize("name", ["r3d", "c3d", "r2plus1d", "r3d18"])
def test_gradients_come_in_the_strides_that_the_exchange_between_processes_expects(name: str, layout: Layout) -> None:
    torch.manual_seed(1)
    model = placed(PclModel(build_backbone(name, 0.05), embedding_dim=8), CPU, layout).train()
    clips = torch.randn(2, 8, 16, 16, 3, 3).permute(0, 5, 4, 1, 2, 3)
    said = model(clips)
    (said.first.sum() + said.third.sum() + said.pretext_logits.sum()).backward()
    apart = [
        (name, tuple(weight.shape), weight.stride(), weight.grad.stride())
        for name, weight in model.named_parameters()
        if weight.grad is None or weight.grad.stride() != weight.stride()
    ]
    assert not apart
    # What copies a network must not undo it.
    assert [weight.stride() for weight in copy.deepcopy(model).parameters()] == [w.stride() for w in model.parameters()]
