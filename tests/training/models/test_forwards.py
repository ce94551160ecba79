"""One pass for all views, or one a view as the published code does it: batch statistics tell them apart."""

import copy

import pytest
import torch
import torch.nn.functional as F

from pclkd.training.models.pcl_model import PclModel
from pclkd.training.models.registry import build_backbone

BANK = F.normalize(torch.randn(2, 9, 16, generator=torch.Generator().manual_seed(1)), dim=-1)
LABELS = torch.tensor([0, 3])


def network(name: str, forwards: str) -> PclModel:
    torch.manual_seed(0)
    return PclModel(build_backbone(name, 0.125), embedding_dim=16, forwards=forwards)  # type: ignore[arg-type]


def some_clips(dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.randn(2, 3, 3, 8, 32, 32, generator=torch.Generator().manual_seed(2)).to(dtype)


def loss(logits: torch.Tensor, first: torch.Tensor, third: torch.Tensor) -> torch.Tensor:
    """Pretext cross-entropy and half of both contrasts; row b of a bank is sample b's."""
    bank, own = BANK.to(first.dtype), torch.arange(2)
    nce = F.cross_entropy(first @ bank[1].T / 0.07, own) + F.cross_entropy(third @ bank[0].T / 0.07, own)
    return F.cross_entropy(logits, LABELS) + 0.5 * nce


def heads(model: PclModel, views: list[torch.Tensor]) -> torch.Tensor:
    assert model.fc is not None
    first, third = (F.normalize(model.projector.mlp(views[view]), dim=-1) for view in (0, 2))
    return loss(model.fc(torch.cat(views, dim=1)), first, third)


def by_hand(model: PclModel, clips: torch.Tensor) -> torch.Tensor:
    return heads(model, [model.base_network(clips[:, view]) for view in range(3)])


@pytest.mark.parametrize("name", ["c3d", "r3d", "r2plus1d"])
def test_each_has_loss_and_gradients_of_three_passes_and_joint_has_not(name: str) -> None:
    clips, found = some_clips(torch.float64), {}
    for forwards in ("each", "joint", "by hand"):
        model = network(name, "joint" if forwards == "by hand" else forwards).double()
        value = by_hand(model, clips) if forwards == "by hand" else heads(model, list(model.features(clips).unbind(1)))
        value.backward()
        found[forwards] = [value.detach(), *(weight.grad for weight in model.parameters()), *model.buffers()]
    torch.testing.assert_close(found["each"], found["by hand"], rtol=1e-9, atol=1e-9)
    assert abs(found["joint"][0] - found["by hand"][0]) > 1e-4


@pytest.mark.parametrize("name", ["c3d", "r3d", "r2plus1d"])
def test_each_has_the_weights_of_three_passes_after_three_steps(name: str) -> None:
    ours, hand = network(name, "each"), network(name, "joint")
    for model in (ours, hand):
        sgd = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, weight_decay=5e-4)
        for _ in range(3):
            sgd.zero_grad()
            if model is ours:
                out = ours(some_clips())
                loss(out.pretext_logits, out.first, out.third).backward()
            else:
                by_hand(hand, some_clips()).backward()
            sgd.step()
    torch.testing.assert_close(ours.state_dict(), hand.state_dict(), rtol=1e-3, atol=1e-3)


def test_without_learning_statistics_it_is_one_pass() -> None:
    each = network("r3d", "each").eval()
    joint = copy.deepcopy(each)
    joint.forwards = "joint"
    torch.testing.assert_close(each(some_clips()), joint(some_clips()), rtol=0, atol=0)
