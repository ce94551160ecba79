"""Forms for GPUs against the layers that they stand for, in float64 on the CPU."""

import copy
from functools import partial
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from pclkd.pipeline.batch import ClipBatch
from pclkd.training.compute.precision import Precision
from pclkd.training.loop.build import build_step
from pclkd.training.models.gpu_forms import FlatBatchNorm, FoldedStem, fold_batch_norm, with_gpu_forms
from pclkd.training.models.memory_layout import placed
from pclkd.training.models.pcl_model import PclModel
from pclkd.training.models.registry import build_backbone
from pclkd.training.objective.objective import Objective, PclSettings
from pclkd.training.settings import RunSettings

pytestmark = pytest.mark.usefixtures("one_thread")

CPU, LAST = torch.device("cpu"), torch.channels_last_3d
close = partial(torch.testing.assert_close, rtol=1e-9, atol=1e-9)


def norms(network: nn.Module) -> list[nn.Module]:
    return [module for module in network.modules() if isinstance(module, _BatchNorm)]


def unlike_fresh(network: nn.Module) -> nn.Module:
    """Batch norms that do something, and statistics other than 0 and 1."""
    for norm in norms(network):
        for tensor in (*norm.parameters(), *norm.buffers()):
            if tensor.is_floating_point():
                tensor.data.uniform_(0.5, 1.5)
    return network


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("affine", [True, False])
def test_flat_batch_norm_is_batch_norm(training: bool, affine: bool) -> None:
    torch.manual_seed(0)
    plain = unlike_fresh(nn.Sequential(nn.BatchNorm3d(5, eps=1e-3, momentum=0.2, affine=affine))).double()
    flat = with_gpu_forms(copy.deepcopy(plain))
    assert type(flat[0]) is FlatBatchNorm and list(flat.state_dict()) == list(plain.state_dict())
    for network in (plain, flat):
        network.train(training)
    for _ in range(2):
        maps = torch.randn(3, 5, 4, 6, 2, dtype=torch.float64).contiguous(memory_format=LAST).requires_grad_()
        own = maps.detach().clone().requires_grad_()
        said, other = (torch.relu_(network(values * 1)) for network, values in ((plain, maps), (flat, own)))
        assert other.is_contiguous(memory_format=LAST)
        assert not other._is_view()  # a ReLU in place on a view copies its gradient twice
        close(other, said)
        weights = torch.randn_like(said)
        (said * weights).sum().backward()
        (other * weights).sum().backward()
        close(own.grad, maps.grad)
    for (name, value), found in zip(plain.state_dict().items(), flat.state_dict().values(), strict=True):
        close(found, value, msg=name)
    for weight, found in zip(plain.parameters(), flat.parameters(), strict=True):
        close(found.grad, weight.grad)


@pytest.mark.parametrize("size", [(16, 12), (10, 22)])
@pytest.mark.parametrize(
    ("kernel", "stride", "padding", "channels"),
    [
        ((3, 7, 7), (1, 2, 2), (1, 3, 3), 3),  # of R3D
        ((1, 7, 7), (1, 2, 2), (0, 3, 3), 3),  # of R(2+1)D
        ((3, 3, 5), (2, 2, 2), (1, 1, 0), 3),
        ((1, 2, 4), (1, 2, 2), (0, 1, 2), 1),
        ((1, 1, 1), (1, 2, 2), (0, 0, 1), 2),
    ],
)
def test_a_folded_stem_is_the_convolution_that_it_stands_for(
    kernel: Any, stride: Any, padding: Any, channels: int, size: tuple[int, int]
) -> None:
    torch.manual_seed(0)
    plain = nn.Sequential(nn.Conv3d(channels, 4, kernel, stride, padding, bias=kernel[0] == 1)).double()
    folded = with_gpu_forms(placed(copy.deepcopy(plain), CPU, "channels-last"))
    assert type(folded[0]) is FoldedStem and list(folded.state_dict()) == list(plain.state_dict())
    clips = torch.randn(2, channels, 4, *size, dtype=torch.float64, requires_grad=True)
    own = clips.detach().contiguous(memory_format=LAST).requires_grad_()
    said, other = plain(clips), folded(own)
    close(other, said)
    weights = torch.randn_like(said)
    (said * weights).sum().backward()
    (other * weights).sum().backward()
    close(own.grad, clips.grad)
    for weight, found in zip(plain.parameters(), folded.parameters(), strict=True):
        close(found.grad, weight.grad)
        assert channels == 1 or found.grad.stride() == found.stride()


def test_a_folded_stem_takes_odd_sizes_as_they_are_and_others_are_left_alone() -> None:
    stem = nn.Sequential(nn.Conv3d(3, 4, 3, (1, 2, 2), padding=1))
    clips = torch.randn(1, 3, 2, 7, 6)
    expected = stem(clips)
    torch.testing.assert_close(with_gpu_forms(stem)(clips), expected)
    others = nn.Sequential(
        nn.Conv3d(3, 4, 3, padding=1), nn.Conv3d(16, 4, 3, 2), nn.Conv3d(3, 3, 3, 2, groups=3), nn.Conv2d(3, 4, 3, 2)
    )
    assert [type(layer) for layer in with_gpu_forms(others)] == [nn.Conv3d, nn.Conv3d, nn.Conv3d, nn.Conv2d]


@pytest.mark.parametrize("name", ["r3d", "r2plus1d", "c3d"])
def test_networks_say_and_learn_the_same_in_forms_for_gpus(name: str) -> None:
    torch.manual_seed(0)
    plain = unlike_fresh(build_backbone(name, 0.05)).double().train()
    other = with_gpu_forms(placed(copy.deepcopy(plain), CPU, "channels-last"))
    assert {type(norm) for norm in norms(other)} == {FlatBatchNorm}
    clips = torch.randn(2, 3, 8, 16, 16, dtype=torch.float64)
    for network, values in ((plain, clips), (other, clips.contiguous(memory_format=LAST))):
        network(values).square().sum().backward()
    for (key, weight), found in zip(plain.named_parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(found.grad, weight.grad, rtol=1e-6, atol=1e-7, msg=key)
    for (key, value), found in zip(plain.state_dict().items(), other.state_dict().values(), strict=True):
        close(found, value, msg=key)


class Deciding(nn.Module):
    """A forward pass that decides by a value, over a part that does not."""

    def __init__(self) -> None:
        super().__init__()
        self.part = nn.Sequential(nn.Conv3d(3, 4, 3), nn.BatchNorm3d(4), nn.ReLU())
        self.twice = nn.BatchNorm3d(4)

    def forward(self, clips: torch.Tensor) -> torch.Tensor:
        maps = self.part(clips)
        return self.twice(maps if maps.sum() > 0 else -maps)


@pytest.mark.parametrize(
    ("network", "folds", "left"),
    [
        (partial(build_backbone, "r3d", 0.05), 12, 0),
        (partial(build_backbone, "c3d", 0.05), 8, 0),
        (partial(build_backbone, "r2plus1d", 0.05), 24, 0),
        (Deciding, 1, 1),
        (lambda: nn.Sequential(nn.BatchNorm3d(3), nn.Conv3d(3, 4, 3)), 0, 1),
    ],
    ids=["r3d", "c3d", "r2plus1d", "deciding", "before"],
)
def test_a_frozen_network_says_the_same_without_its_batch_norms(network: Any, folds: int, left: int) -> None:
    torch.manual_seed(0)
    plain = unlike_fresh(network()).double().eval().requires_grad_(False)
    folded = copy.deepcopy(plain)
    assert fold_batch_norm(folded) == folds
    assert len(norms(folded)) == left
    clips = torch.randn(2, 3, 8, 16, 16, dtype=torch.float64)
    close(folded(clips), plain(clips))
    assert not any(weight.requires_grad for weight in folded.parameters())


def test_a_batch_norm_that_learns_or_whose_convolution_others_read_stays() -> None:
    class Shared(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.norm = nn.Conv3d(3, 3, 1), nn.BatchNorm3d(3)

        def forward(self, clips: torch.Tensor) -> torch.Tensor:
            maps = self.conv(clips)
            return self.norm(maps) + maps

    class Again(Shared):
        def forward(self, clips: torch.Tensor) -> torch.Tensor:
            return self.norm(self.conv(self.norm(self.conv(clips))))

    assert fold_batch_norm(Shared().eval()) == fold_batch_norm(Again().eval()) == 0
    assert fold_batch_norm(nn.Sequential(nn.Conv3d(3, 3, 1), nn.BatchNorm3d(3))) == 0


def test_a_step_in_forms_for_gpus_is_the_step() -> None:
    """Student and teacher of different kinds, two steps; the student's names stay, the teacher has no batch norms."""
    losses: dict[str, list[dict[str, float]]] = {}
    keys: dict[str, list[str]] = {}
    for forms in ("off", "on"):
        torch.manual_seed(0)
        student, teacher = (PclModel(build_backbone(name, 0.05), embedding_dim=16) for name in ("r3d", "c3d"))
        unlike_fresh(teacher)
        settings = RunSettings.model_validate({"layout": "channels-last", "gpu_forms": forms})
        pcl = PclSettings(negatives=8, embedding_dim=16)
        objective = partial(Objective, rows=9, settings=pcl, seed=0, teachers=[teacher])
        step = build_step(student, objective, (2, 3, 3, 8, 16, 16), Precision("fp32", CPU), settings)
        number = torch.arange(2)
        batches = (
            ClipBatch(torch.randn(2, 3, 3, 8, 16, 16), number, number, number, epoch=1, valid=2) for _ in range(2)
        )
        losses[forms] = [{name: float(value) for name, value in step(batch).items()} for batch in batches]
        keys[forms] = list(student.state_dict())
        assert len(norms(teacher.base_network)) == (0 if forms == "on" else 8)
        assert type(student.base_network.conv1.temporal_spatial_conv) is (FoldedStem if forms == "on" else nn.Conv3d)
    assert keys["on"] == keys["off"]
    assert losses["on"] == [pytest.approx(expected, rel=2e-3) for expected in losses["off"]]
    assert losses["on"] != losses["off"]
