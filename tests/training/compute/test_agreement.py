"""How the processes of a job meet and decide alike, and how DistributedDataParallel is set up."""

import contextlib
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from pclkd.pipeline.world import World
from pclkd.sharding.common.errors import InputError
from pclkd.training.compute import distributed
from pclkd.training.compute.distributed import agreed, collected, joined, meet, refuse_shared, wrapped
from pclkd.training.compute.settings import Layout
from pclkd.training.loop.preemption import PreemptedError
from pclkd.training.models.memory_layout import placed
from pclkd.training.models.pcl_model import PclModel
from pclkd.training.models.registry import build_backbone

pytestmark = pytest.mark.usefixtures("one_thread")

CPU = torch.device("cpu")
SOON = timedelta(milliseconds=300)


def choose(rank: int) -> Callable[[], str]:
    def own() -> str:
        if rank:
            raise AssertionError("only the first process chooses")
        return "cuda-graphs"

    return own


def decide(rank: int, folder: Path) -> None:
    dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=2)
    chosen = [agreed("one", choose(rank)), agreed("another", choose(rank))]
    meet("the end")
    try:
        # The second process is gone by then; the first one tells so.
        absent = "" if rank else str(meet("an end that only one comes to", SOON))
    except InputError as error:
        absent = str(error)
    torch.save([chosen, absent], folder / f"{rank}.pt")
    dist.destroy_process_group()


def test_two_processes_do_what_the_first_one_chooses_and_do_not_wait_for_ever(tmp_path: Path) -> None:
    mp.spawn(decide, args=(tmp_path,), nprocs=2)  # type: ignore[no-untyped-call]
    (first, absent), (second, _) = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2))
    assert first == second == ["cuda-graphs", "cuda-graphs"]
    assert "an end that only one comes to: rank 1 of 2 has not come within 0.3 s" in absent


def test_alone_nobody_is_asked() -> None:
    meet("nothing")
    assert agreed("one", choose(0)) == "cuda-graphs"


def test_processes_on_one_gpu_are_told_so_on_every_rank(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distributed, "_meetings", _SameForAll())
    store, gpus = dist.HashStore(), ["GPU-1", "MIG-2", "GPU-1", "GPU-4"]

    def told(rank: int) -> str:
        with pytest.raises(InputError, match="ranks 0, 2 share the GPU GPU-1") as refused:
            refuse_shared(collected(store, rank, 4, "the names of the GPUs", gpus[rank], timedelta(minutes=15)))
        return str(refused.value)

    with ThreadPoolExecutor(4) as pool:
        assert len(set(pool.map(told, range(4)))) == 1
    refuse_shared(["GPU-1", "GPU-2"])


class _SameForAll(Iterator[int]):
    """Threads stand for processes here, each of which counts for itself."""

    def __next__(self) -> int:
        return 0


@pytest.mark.parametrize(
    ("device", "error", "waits"),
    [
        ("cpu", ValueError("of this process alone"), True),
        ("cuda", ValueError("of this process alone"), False),
        ("cuda", PreemptedError(7), True),
        ("cuda", None, True),
    ],
)
def test_one_process_that_fails_does_not_wait_for_the_others_gpus(
    device: str, error: Exception | None, waits: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """NCCL's end waits for exchanges that never come; here its group is played."""
    ended: list[bool] = []
    monkeypatch.setattr(distributed, "rendezvous", lambda *_, **__: iter([(dist.HashStore(), 0, 2)]))
    monkeypatch.setattr(distributed, "collected", lambda *_: ["GPU-1", "GPU-2"])
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: SimpleNamespace(uuid="GPU-1"))
    monkeypatch.setattr(dist, "init_process_group", lambda *_, **__: None)
    for name in ("set_timeout", "_set_pg_timeout"):
        monkeypatch.setattr(distributed.c10d, name, lambda _: None, raising=False)
    monkeypatch.setattr(dist, "destroy_process_group", lambda: ended.append(True))
    with contextlib.suppress(ValueError, PreemptedError), joined(World(0, 2, 0, 2), torch.device(device)):
        if error is not None:
            raise error
    assert bool(ended) is waits
    assert getattr(error, "met_at_work", False) is (error is not None)


@pytest.mark.parametrize("layout", ["contiguous", "channels-last"])
def test_the_exchange_of_gradients_neither_warns_nor_copies(layout: Layout) -> None:
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    torch.set_warn_always(True)
    try:
        torch.manual_seed(0)
        model = placed(PclModel(build_backbone("r3d", 0.05), embedding_dim=8), CPU, layout)
        trained = wrapped(model, World(0, 2, 0, 2), CPU)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            for _ in range(3):
                said = trained(torch.randn(2, 3, 3, 8, 16, 16))
                (said.first.sum() + said.third.sum() + said.pretext_logits.sum()).backward()
        storages = {
            weight.grad.untyped_storage().data_ptr() for weight in model.parameters() if weight.grad is not None
        }
    finally:
        torch.set_warn_always(False)
        dist.destroy_process_group()
    assert len(storages) < len(list(model.parameters())) / 4  # buckets, not a memory of its own for each gradient
