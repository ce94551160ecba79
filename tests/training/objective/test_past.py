"""A student that is taught by what it was an epoch ago, held against a copy that the test keeps."""

import copy
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
import torch.nn.functional as F
from torch.nn.parallel import DistributedDataParallel

from pclkd.pipeline.batch import ClipBatch
from pclkd.sharding.common.errors import InputError
from pclkd.training.compute.precision import Precision
from pclkd.training.loop.build import build_step
from pclkd.training.models.pcl_model import PclModel
from pclkd.training.models.registry import build_backbone
from pclkd.training.objective.objective import KdSettings, Objective, PclSettings
from pclkd.training.settings import RunSettings

pytestmark = pytest.mark.usefixtures("one_thread")

PCL = PclSettings(contrast="in_batch", embedding_dim=8)
KD = KdSettings(self_teacher=True, contrast_weight=0, feature_weight=2, pretext_temperature=2)


def student(seed: int = 0) -> PclModel:
    torch.manual_seed(seed)
    backbone = build_backbone("r3d", 0.125)
    return PclModel(backbone, embedding_dim=8, adapter_dims=[backbone.feature_dim])


def batch(number: int, epoch: int) -> ClipBatch:
    generator = torch.Generator().manual_seed(number)
    return ClipBatch(
        clips=torch.randn(4, 3, 3, 8, 32, 32, generator=generator),
        pretext_label=torch.tensor([0, 1, 3, 4]),
        sample_index=torch.arange(4),
        label=torch.zeros(4, dtype=torch.int64),
        epoch=epoch,
        valid=4,
    )


def learn(network: torch.nn.Module, objective: Objective, epoch: int, numbers: range) -> list[dict[str, torch.Tensor]]:
    optimizer = torch.optim.SGD(network.parameters(), lr=0.05)
    told = []
    for number in numbers:
        losses = objective(batch(number, epoch))
        optimizer.zero_grad()
        losses["loss"].backward()
        optimizer.step()
        told.append(losses)
    return told


def test_the_teacher_is_the_student_of_the_epoch_before() -> None:
    network = student()
    objective = Objective(network, 4, PCL, seed=0, kd=KD)
    objective.train()
    for losses in learn(network, objective, 0, range(3)):
        assert not any(name.startswith("kd_") for name in losses)  # there is nobody yet
    for epoch in (1, 2):
        past = copy.deepcopy(network).eval()
        for number in range(2):
            before = copy.deepcopy(network)  # in train mode, as it is asked
            (losses,) = learn(network, objective, epoch, range(number, number + 1))
            with torch.no_grad():
                theirs, own = past(batch(number, epoch).clips), before(batch(number, epoch).clips)
            p, q = ((said.pretext_logits.double() / 2).log_softmax(1) for said in (theirs, own))
            assert losses["kd_pretext"].item() == pytest.approx(4 * (p.exp() * (p - q)).sum(1).mean().item(), rel=1e-4)
            features = theirs.features.flatten(0, 1).double()
            spread = features.std(0, correction=0)
            wanted = (features - features.mean(0)) / (spread + 1e-3 * spread.mean())
            distance = F.mse_loss(own.adapted[0].flatten(0, 1).double(), wanted)
            assert losses["kd_feature"].item() == pytest.approx(distance.item(), rel=1e-4)
            assert losses["loss"].item() == pytest.approx(
                losses["pretext"].item()
                + 0.5 * losses["contrast"].item()
                + losses["kd_pretext"].item()
                + 2 * losses["kd_feature"].item(),
                rel=1e-5,
            )


def test_it_goes_on_within_an_epoch_with_the_same_teacher() -> None:
    network = student()
    objective = Objective(network, 4, PCL, seed=0, kd=KD).train()
    for epoch in (0, 1):
        learn(network, objective, epoch, range(2))
    memory = copy.deepcopy(objective.memory_state())
    assert not any(name.startswith("adapters") for name in memory["past"])
    again = student(1)
    again.load_state_dict(network.state_dict())
    other = Objective(again, 4, PCL, seed=0, kd=KD).train()
    other.load_memory_state(memory)
    for epoch, numbers in ((1, range(2, 4)), (2, range(2))):
        both = [learn(net, goal, epoch, numbers) for net, goal in ((network, objective), (again, other))]
        assert both[0] == both[1]


def test_it_follows_the_student_in_forms_for_gpus_too() -> None:
    settings = RunSettings.model_validate({"layout": "channels-last", "gpu_forms": "on", "compile": "off"})
    precision = Precision("fp32", torch.device("cpu"))
    shape = batch(0, 0).clips.shape
    step = build_step(student(), lambda own: Objective(own, 4, PCL, seed=0, kd=KD), shape, precision, settings)
    for epoch in (0, 1):
        own = copy.deepcopy(step.objective.student.state_dict())
        step(batch(epoch, epoch))
    past = step.objective.past.network.state_dict()
    assert past.keys() == {name for name in own if not name.startswith("adapters")}
    assert all(torch.equal(past[name], own[name]) for name in past)


def test_it_has_no_other_teacher() -> None:
    with pytest.raises(InputError, match="and a teacher beside it"):
        Objective(student(), 4, PCL, seed=0, teachers=[student(1)], kd=KD)


def work(rank: int, folder: Path) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=2)
    network = DistributedDataParallel(student())
    objective = Objective(network, 4, PCL, seed=0, kd=KD).train()
    for epoch in (0, 1):
        learn(network, objective, epoch, range(rank, rank + 1))  # each rank has clips of its own
    torch.save(objective.memory_state()["past"], folder / f"{rank}.pt")
    dist.destroy_process_group()


def test_all_processes_have_the_same_teacher(tmp_path: Path) -> None:
    mp.spawn(work, args=(tmp_path,), nprocs=2)
    first, second = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2))
    assert first["epoch"] == 1 and all(torch.equal(first[name], second[name]) for name in first)
