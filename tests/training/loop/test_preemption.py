from pathlib import Path

import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from pclkd.training.loop.preemption import StopRequest

CPU = torch.device("cpu")
RANKS = 3


def test_a_single_process_knows_at_once() -> None:
    stop = StopRequest()
    assert not stop.agreed(CPU)
    stop.asked = True
    assert stop.agreed(CPU) and stop.agreed(CPU, wait=True)
    stop.settle()


# (call before which the last rank is asked, calls that wait, first call that says so)
CASES = [
    (2, (), 3),  # heard one call later
    (2, (2,), 2),
    (2, (3,), 3),
    (5, (), None),  # nobody calls again
    (0, (0, 1), 0),
]


def work(rank: int, folder: Path) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=RANKS)
    answers = []
    for asked_before, waits, _ in CASES:
        stop = StopRequest()
        for call in range(6):
            if call == asked_before and rank == RANKS - 1:
                stop.asked = True
            answers.append(stop.agreed(CPU, wait=call in waits))
            # Other collectives of a step come in between.
            dist.all_reduce(torch.ones(3))
        stop.settle()
    torch.save(answers, folder / f"{rank}.pt")
    dist.destroy_process_group()


def test_all_ranks_decide_at_the_same_call(tmp_path: Path) -> None:
    mp.spawn(work, args=(tmp_path,), nprocs=RANKS)  # type: ignore[no-untyped-call]
    expected = [first is not None and call >= first for _, _, first in CASES for call in range(6)]
    for rank in range(RANKS):
        assert torch.load(tmp_path / f"{rank}.pt", weights_only=True) == expected
