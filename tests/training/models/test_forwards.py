"""One pass for all views, or one a view as the published code does it: batch statistics tell them apart."""

import copy
import json
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
import torch.nn.functional as F
from click.testing import CliRunner
from torch.nn.parallel import DistributedDataParallel

from pclkd.training.cli import main
from pclkd.training.models.pcl_model import PclModel
from pclkd.training.models.registry import build_backbone
from pclkd.training.runs.checkpoint import Checkpoint, load_checkpoint

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


def test_a_checkpoint_from_before_the_setting_goes_on_with_joint_passes(synthetic_shards: Path, tmp_path: Path) -> None:
    tiny = ["backbone.width=0.125", "loader.crop=32", "loader.batch_size=4", "pcl.negatives=8", "evaluation.every=0"]
    base = ["pretrain", "--data", str(synthetic_shards), "--preset=demo", *(f"--set={one}" for one in tiny)]

    def run(name: str, *more: str) -> Checkpoint:
        done = CliRunner().invoke(main, [*base, "--out", str(tmp_path / name), "--epochs=1", *more])
        assert done.exit_code == 0, done.output
        return load_checkpoint(tmp_path / name)

    run("old", "--max-steps=1")
    content = torch.load(tmp_path / "old" / "last.pt", weights_only=True)
    settings = json.loads(content["settings"])
    assert settings["pcl"].pop("forwards") == "joint"
    torch.save({**content, "settings": json.dumps(settings)}, tmp_path / "old" / "last.pt")
    old, whole = run("old", "--resume"), run("whole")
    assert all(torch.equal(old.model[name], whole.model[name]) for name in whole.model)
    refused = CliRunner().invoke(
        main, [*base, "--out", str(tmp_path / "old"), "--epochs=1", "--resume", "--set=pcl.forwards=each"]
    )
    assert refused.exit_code == 2 and "forwards" in refused.output


@pytest.mark.parametrize("name", ["r3d", "r2plus1d"])
def test_under_autocast_each_is_still_three_passes(name: str) -> None:
    found = {}
    for forwards in ("each", "by hand"):
        model = network(name, "joint" if forwards == "by hand" else forwards)
        clips = some_clips()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            if forwards == "each":
                found[forwards] = model.features(clips)
            else:
                found[forwards] = torch.stack([model.base_network(clips[:, view]) for view in range(3)], dim=1)
        assert found[forwards].dtype == torch.bfloat16
        found[forwards + " statistics"] = torch.cat([buffer.flatten().float() for buffer in model.buffers()])
    torch.testing.assert_close(found["each"], found["by hand"], rtol=0, atol=0)
    torch.testing.assert_close(found["each statistics"], found["by hand statistics"], rtol=0, atol=0)


def work(rank: int, folder: Path) -> None:
    """Gradients over half of the batch: by our passes, or by hand, averages over the ranks included."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=2)
    both = torch.randn(4, 3, 3, 8, 32, 32, generator=torch.Generator().manual_seed(2)).double()
    clips = both[2 * rank : 2 * rank + 2]
    ours, hand = network("r3d", "each").double(), network("r3d", "joint").double()
    wrapped = DistributedDataParallel(ours)
    out = wrapped(clips)
    loss(out.pretext_logits, out.first, out.third).backward()
    by_hand(hand, clips).backward()
    for weight in hand.parameters():
        dist.all_reduce(weight.grad)
    gradients = [
        torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None]) for model in (ours, hand)
    ]
    torch.save({"each": gradients[0], "by hand": gradients[1] / 2}, folder / f"{rank}.pt")
    dist.destroy_process_group()


def test_two_ranks_have_the_mean_of_the_gradients_of_their_three_passes(tmp_path: Path) -> None:
    mp.spawn(work, args=(tmp_path,), nprocs=2)  # type: ignore[no-untyped-call]
    first, second = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2))
    torch.testing.assert_close(first["each"], first["by hand"], rtol=1e-5, atol=1e-5)
    assert torch.equal(first["each"], second["each"])
