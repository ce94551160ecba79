from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch.nn.parallel import DistributedDataParallel

from pclkd.pipeline.batch import ClipBatch
from pclkd.training.compute.distributed import gather_rows, gather_rows_together
from pclkd.training.models.pcl_model import PclModel
from pclkd.training.models.registry import build_backbone
from pclkd.training.objective.objective import KdSettings, Objective, PclSettings

ROWS, DIM, RANKS, EACH = 12, 8, 2, 2
PRETEXT_ONLY = KdSettings(contrast_weight=0)


def network(name: str, seed: int) -> PclModel:
    torch.manual_seed(seed)
    return PclModel(build_backbone(name, 0.125), embedding_dim=DIM)


def whole_batch(step: int) -> ClipBatch:
    """The samples of all ranks; row 3 occurs on both of them."""
    total = RANKS * EACH
    return ClipBatch(
        clips=torch.randn(total, 3, 3, 8, 16, 16, generator=torch.Generator().manual_seed(step)),
        pretext_label=torch.tensor([0, 4, 2, 1]),
        sample_index=torch.tensor([3, 7, 0, 3]),
        label=torch.zeros(total, dtype=torch.int64),
        epoch=step,
        valid=total,
    )


def share(batch: ClipBatch, rank: int) -> ClipBatch:
    own = slice(rank * EACH, (rank + 1) * EACH)
    return ClipBatch(
        batch.clips[own], batch.pretext_label[own], batch.sample_index[own], batch.label[own], batch.epoch, EACH
    )


def train(student: torch.nn.Module, rank: int | None, settings: PclSettings, kd: KdSettings) -> dict[str, torch.Tensor]:
    """Three steps, in eval mode so that batch norm does not depend on how samples are spread."""
    objective = Objective(student, ROWS, settings, seed=6, teachers=[network("r3d", 1)], kd=kd).eval()
    optimizer = torch.optim.SGD(student.parameters(), lr=0.05)
    for step in range(3):
        batch = whole_batch(step)
        optimizer.zero_grad()
        objective(batch if rank is None else share(batch, rank))["loss"].backward()
        optimizer.step()
    banks = objective.memory_state()
    state = {f"{who}.{clip}": bank for who, pair in banks.items() for clip, bank in pair.items()}
    inner = student.module if isinstance(student, DistributedDataParallel) else student
    return {**state, **inner.state_dict()}


def work(rank: int, folder: Path, settings: PclSettings, kd: KdSettings) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=RANKS)
    rows = torch.arange(3) + 10 * rank
    strided, half = torch.stack([rows, -rows]).float().T, (rows[:, None, None] + torch.zeros(1, 2, 2)).bfloat16()
    gathered = {"int64": gather_rows(rows), "strided": gather_rows(strided)}
    gathered |= dict(zip(("int64 too", "strided too", "half"), gather_rows_together(rows, strided, half), strict=True))
    state = train(DistributedDataParallel(network("c3d", 0)), rank, settings, kd)
    torch.save({"gathered": gathered, "state": state}, folder / f"{rank}.pt")
    dist.destroy_process_group()


@pytest.mark.parametrize(
    ("settings", "kd"),
    [
        (PclSettings(negatives=6, embedding_dim=DIM), KdSettings()),
        # Two heads get nothing to learn: the gradient exchange must not wait for them.
        (PclSettings(negatives=6, embedding_dim=DIM, contrast_weight=0), PRETEXT_ONLY),
    ],
    ids=["all terms", "pretext only"],
)
def test_two_processes_hold_the_banks_and_weights_of_one(tmp_path: Path, settings: PclSettings, kd: KdSettings) -> None:
    mp.spawn(work, args=(tmp_path, settings, kd), nprocs=RANKS)  # type: ignore[no-untyped-call]
    ranks = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(RANKS)]
    for rank in ranks:
        assert rank["gathered"]["int64"].tolist() == [0, 1, 2, 10, 11, 12]
        assert rank["gathered"]["strided"].tolist() == [[x, -x] for x in (0, 1, 2, 10, 11, 12)]
        assert all(
            torch.equal(rank["gathered"][name], rank["gathered"][f"{name} too"]) for name in ("int64", "strided")
        )
        assert rank["gathered"]["half"].dtype == torch.bfloat16
        assert rank["gathered"]["half"].tolist() == [[[x, x], [x, x]] for x in (0, 1, 2, 10, 11, 12)]
    threads = torch.get_num_threads()
    # Tiny convolutions on several threads of a busy machine take many times as long as on one.
    torch.set_num_threads(1)
    alone = train(network("c3d", 0), None, settings, kd)
    torch.set_num_threads(threads)
    for key, value in alone.items():
        assert torch.equal(ranks[0]["state"][key], ranks[1]["state"][key]), key
        torch.testing.assert_close(ranks[0]["state"][key], value, rtol=1e-4, atol=1e-5, msg=key)


def test_one_process_gets_its_own_rows_back() -> None:
    rows = torch.arange(6).reshape(3, 2)
    assert gather_rows(rows) is rows
    assert all(one is rows for one in gather_rows_together(rows, rows))
