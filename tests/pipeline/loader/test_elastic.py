"""The order of an epoch, whoever shares it: any number of processes, any interruption."""

import json
import os
import signal
import subprocess
import sys
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pclkd.pipeline import clip_loader
from pclkd.pipeline.batch import ClipBatch
from pclkd.pipeline.clips.sampling import TupleSettings
from pclkd.pipeline.loader.loader import ClipLoader
from pclkd.pipeline.loader.order import (
    sequential_positions,
    sequential_steps,
    shuffled_positions,
    shuffled_steps,
)
from pclkd.pipeline.randomness import permutation
from pclkd.pipeline.world import World
from pclkd.sharding.common.errors import InputError

SETTINGS = {"crop": 32, "seed": 3, "device": torch.device("cpu"), "prefetch": 1}
TUPLES = {"clip_frames": 4, "clip_stride": 6, "remote_distance": 4}

sittings = st.lists(st.tuples(st.integers(1, 8), st.integers(1, 5), st.integers(0, 6)), min_size=1, max_size=5)


@given(n=st.integers(40, 200), seed=st.integers(0, 99), epoch=st.integers(0, 9), sittings=sittings)
def test_interrupted_training_takes_the_order_of_an_uninterrupted_one(
    n: int, seed: int, epoch: int, sittings: list[tuple[int, int, int]]
) -> None:
    # Each sitting: (processes, batch size, steps until it is killed).
    order = permutation(seed, epoch, n)
    taken: list[int] = []
    for size, batch, steps in sittings:
        consumed = len(taken)
        parts = [shuffled_positions(seed, epoch, n, batch, World(rank, size), consumed) for rank in range(size)]
        assert {len(part) for part in parts} == {shuffled_steps(n, batch, World(size=size), consumed)}
        for step in list(zip(*parts, strict=True))[:steps]:
            taken += np.concatenate(step).tolist()
    assert taken == order[: len(taken)].tolist()
    size, batch, _ = sittings[-1]
    left = shuffled_steps(n, batch, World(size=size), len(taken))
    assert 0 <= n - len(taken) - left * size * batch < size * batch  # whoever waits is less than one step


@given(n=st.integers(0, 100), consumed=st.integers(0, 100), batch=st.integers(1, 6), size=st.sampled_from([1, 2, 3, 8]))
def test_an_interrupted_evaluation_leaves_nobody_out(n: int, consumed: int, batch: int, size: int) -> None:
    consumed = min(consumed, n)
    parts = [sequential_positions(n, batch, World(rank, size), consumed) for rank in range(size)]
    assert sorted(position for part in parts for each in part for position in each) == list(range(consumed, n))
    assert max(map(len, parts)) == sequential_steps(n, batch, World(size=size), consumed)


@pytest.mark.parametrize("size", [1, 2, 3, 8])
def test_a_rank_of_any_job_is_what_the_order_tells(size: int) -> None:
    order = permutation(1, 2, 100)
    for rank in range(size):
        mine = shuffled_positions(1, 2, 100, 24 // size, World(rank, size))
        for step in range(4):
            begin = 24 * step + rank * (24 // size)
            assert mine[step].tolist() == order[begin : begin + 24 // size].tolist()


def loader(shards: Path, world: World | None = None, **settings: object) -> ClipLoader:
    return clip_loader(shards, world=world or World(), **{**SETTINGS, "tuples": TupleSettings(**TUPLES), **settings})


def facts(batch: ClipBatch) -> list[tuple[int, int, int]]:
    """(id, pretext class, checksum of all pixels) of each sample."""
    sums = [zlib.crc32(clips.contiguous().numpy()) for clips in batch.clips]
    return list(zip(batch.sample_index.tolist(), batch.pretext_label.tolist(), sums, strict=True))


@pytest.fixture(scope="module")
def whole(synthetic_shards: Path) -> list[list[tuple[int, int, int]]]:
    """Four epochs of 12 samples by one process, one at a time."""
    with loader(synthetic_shards, batch_size=1) as alone:
        return [[fact for batch in alone for fact in facts(batch)] for _ in range(4)]


@pytest.mark.parametrize(
    ("size", "batch", "threads", "prefetch"), [(1, 12, 1, 3), (2, 3, 2, 1), (3, 4, 1, 2), (8, 1, 3, 1)]
)
def test_ids_classes_and_pixels_are_the_same_for_any_number_of_processes(
    synthetic_shards: Path, whole: list[list[tuple[int, int, int]]], size: int, batch: int, threads: int, prefetch: int
) -> None:
    ranks = []
    for rank in range(size):
        with loader(
            synthetic_shards, World(rank, size), batch_size=batch, threads=threads, prefetch=prefetch
        ) as opened:
            ranks.append([[facts(one) for one in opened] for _ in range(2)])
    for epoch in range(2):
        joined = [fact for step in zip(*(rank[epoch] for rank in ranks), strict=True) for each in step for fact in each]
        assert joined == whole[epoch][: len(joined)] and len(joined) == 12 // (size * batch) * size * batch


@pytest.mark.parametrize("after", [1, 2, 3])
@pytest.mark.parametrize(("size", "batch"), [(1, 4), (2, 1), (3, 1), (1, 5)])
def test_a_state_goes_on_with_another_number_of_processes(
    synthetic_shards: Path, whole: list[list[tuple[int, int, int]]], after: int, size: int, batch: int
) -> None:
    with loader(synthetic_shards, World(0, 2), batch_size=2) as first:
        iterator = iter(first)
        for _ in range(after):
            next(iterator)
        state = json.loads(json.dumps(first.state_dict()))
    assert state["consumed"] == 4 * after and state["epoch"] == 0
    found: list[list[list[tuple[int, int, int]]]] = []
    for rank in range(size):
        with loader(synthetic_shards, World(rank, size), batch_size=batch) as second:
            second.load_state_dict(state)
            assert second.state_dict() == state
            assert second.steps_left == (12 - 4 * after) // (size * batch) and len(second) == 12 // (size * batch)
            second.set_epoch(0)  # as a loop over epochs would: the place is kept
            found.append([fact for one in second for fact in [facts(one)]])
            assert second.state_dict()["epoch"] == 1 and second.state_dict()["consumed"] == 0
    joined = [fact for step in zip(*found, strict=True) for each in step for fact in each]
    assert joined == whole[0][4 * after :][: len(joined)]
    assert 12 - 4 * after - len(joined) < size * batch


@pytest.mark.parametrize(("size", "batch"), [(1, 4), (2, 3), (3, 2), (6, 2)])
def test_left_at_the_third_batch_three_whole_epochs_follow_as_if_nobody_had_left(
    synthetic_shards: Path, whole: list[list[tuple[int, int, int]]], size: int, batch: int
) -> None:
    """By one process before, by any number after: by more than there are shards, too."""
    with loader(synthetic_shards, batch_size=2) as first:
        for number, _ in enumerate(first):
            if number == 2:
                break
        state = first.state_dict()
    ranks: list[list[list[list[tuple[int, int, int]]]]] = []  # by rank, by epoch, by batch
    for rank in range(size):
        with loader(synthetic_shards, World(rank, size), batch_size=batch) as second:
            second.load_state_dict(state)
            ranks.append([[facts(one) for one in second] for _ in range(4)])
    joined = [
        [fact for step in zip(*epoch, strict=True) for each in step for fact in each]
        for epoch in zip(*ranks, strict=True)
    ]
    assert joined[0] == whole[0][6:][: 6 // (size * batch) * size * batch]
    assert joined[1:] == whole[1:]
    assert all(len({sample for sample, *_ in epoch}) == 12 for epoch in joined[1:])


def test_a_loop_goes_through_epochs_and_can_be_placed(
    synthetic_shards: Path, whole: list[list[tuple[int, int, int]]]
) -> None:
    with loader(synthetic_shards, batch_size=4) as opened:
        for batch in opened:
            assert facts(batch) == whole[0][:4]
            break
        rest = [facts(batch) for batch in opened]  # a loop that was left goes on
        assert rest == [whole[0][4:8], whole[0][8:]]
        assert [fact for batch in opened for fact in facts(batch)] == whole[1]
        opened.set_epoch(0)
        assert [fact for batch in opened for fact in facts(batch)] == whole[0]
        opened.set_epoch(2)
        opened.set_epoch(2)
        assert [fact for batch in opened for fact in facts(batch)] == whole[2]


def test_an_evaluation_stays_where_it_is(synthetic_shards: Path) -> None:
    with loader(synthetic_shards, part="test", batch_size=3) as opened:
        once, again = ([facts(batch) for batch in opened] for _ in range(2))
    assert once == again and len(once) == len(opened)


def test_a_state_of_something_else_is_refused(synthetic_shards: Path, real_shards: Path) -> None:
    with loader(synthetic_shards, batch_size=2) as opened:
        state = opened.state_dict()
        with loader(real_shards, batch_size=2) as other, pytest.raises(InputError, match="belongs to other data"):
            other.load_state_dict(state)
        with loader(synthetic_shards, batch_size=2, split=2) as other, pytest.raises(InputError, match="other data"):
            other.load_state_dict(state)
        with loader(synthetic_shards, batch_size=2, seed=4) as other, pytest.raises(InputError, match="seed=3"):
            other.load_state_dict(state)
        for wrong in ({}, {**state, "consumed": 13}, {**state, "epoch": -1}, {**state, "more": 1}, {"version": 1}):
            with pytest.raises(InputError, match="loader state"):
                opened.load_state_dict(wrong)
        assert opened.state_dict() == state


# A process of a job: goes through the data in step with the others, keeps a diary, and rank 0 saves the state. At the
# place of `held`, (epoch, consumed), it stays for ever once that is saved.
PROGRAM = """
import json, os, sys, time, zlib
from pathlib import Path
import torch
import torch.distributed as dist
from pclkd.pipeline import World, clip_loader
from pclkd.pipeline.clips.sampling import TupleSettings

task = json.loads(sys.argv[1])
world = World(task["rank"], task["size"])
out = Path(task["out"])
dist.init_process_group("gloo", init_method=f"file://{out}/meeting", rank=world.rank, world_size=world.size)
loader = clip_loader(task["shards"], world=world, tuples=TupleSettings(**task["tuples"]), crop=32, seed=3, prefetch=1,
                     device=torch.device("cpu"), batch_size=task["batch"])
if task["state"]:
    loader.load_state_dict(task["state"])
with loader, (out / f"rank{world.rank}.jsonl").open("w") as diary:
    while loader.state_dict()["epoch"] < 3:
        for batch in loader:
            sums = [zlib.crc32(clips.contiguous().numpy()) for clips in batch.clips]
            rows = list(zip(batch.sample_index.tolist(), batch.pretext_label.tolist(), sums))
            state = loader.state_dict()
            diary.write(json.dumps([state["epoch"], state["consumed"], rows]) + "\\n")
            diary.flush()
            dist.barrier()  # everybody has taken this step
            if world.rank == 0:
                (out / "state.part").write_text(json.dumps(state))
                os.replace(out / "state.part", out / "state.json")
                if [state["epoch"], state["consumed"]] == task["held"]:
                    time.sleep(10_000)
"""


def start(shards: Path, out: Path, size: int, batch: int, state: object, held: object = None) -> list[subprocess.Popen]:
    out.mkdir()
    shared = {"shards": str(shards), "out": str(out), "tuples": TUPLES, "held": held}
    return [
        subprocess.Popen(
            [
                *(sys.executable, "-c", PROGRAM),
                json.dumps({**shared, "rank": rank, "size": size, "batch": batch, "state": state}),
            ],
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        for rank in range(size)
    ]


def diary(out: Path, size: int) -> dict[tuple[int, int], list[tuple[int, int, int]]]:
    """What all ranks took, by (epoch, consumed after the step); steps that not all of them finished are left out."""
    ranks = []
    for rank in range(size):
        lines = (out / f"rank{rank}.jsonl").read_text().split("\n")[:-1]
        ranks.append({(epoch, consumed): rows for epoch, consumed, rows in map(json.loads, lines)})
    shared = sorted(set.intersection(*(set(rank) for rank in ranks)))
    return {step: [tuple(row) for rank in ranks for row in rank[step]] for step in shared}


@pytest.fixture(scope="module")
def killed(synthetic_shards: Path, until: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict, list]:
    """A job of two processes, killed with SIGKILL within the second epoch: its last state, and what it had taken."""
    out = tmp_path_factory.mktemp("job") / "killed"
    processes = start(synthetic_shards, out, size=2, batch=2, state=None, held=[1, 8])
    place = (1, 8)  # two steps of three

    def saved() -> tuple[int, int] | None:
        state = json.loads((out / "state.json").read_text()) if (out / "state.json").exists() else None
        return state and (state["epoch"], state["consumed"])

    until(lambda: saved() == place, processes[0])
    for process in processes:
        process.send_signal(signal.SIGKILL)
    assert [process.wait() for process in processes] == [-signal.SIGKILL] * 2
    state = json.loads((out / "state.json").read_text())
    done = diary(out, 2)
    return state, [row for step in sorted(done) if step <= place for row in done[step]]


@pytest.mark.parametrize(("size", "batch"), [(2, 2), (1, 3)])
def test_a_killed_job_goes_on_with_one_process_or_two(
    synthetic_shards: Path, whole: list, killed: tuple[dict, list], tmp_path: Path, size: int, batch: int
) -> None:
    state, before = killed
    processes = start(synthetic_shards, tmp_path / "resumed", size, batch, state)
    assert [process.wait() for process in processes] == [0] * size
    after = diary(tmp_path / "resumed", size)
    consumed = state["consumed"]
    steps = (12 - consumed) // (size * batch)
    finished = whole[1][: consumed + steps * size * batch]
    assert before + [row for step in sorted(after) for row in after[step]] == [*whole[0], *finished, *whole[2]]


def test_the_next_epoch_is_begun_before_it_is_asked_for(synthetic_shards: Path, whole: list, until: Any) -> None:
    with loader(synthetic_shards, batch_size=12) as alone:
        list(alone.epoch(0))  # asked for by its number, an epoch is all that is read
    with loader(synthetic_shards, batch_size=12) as opened:
        assert [fact for batch in opened for fact in facts(batch)] == whole[0]
        until(lambda: opened.statistics.bytes_read > alone.statistics.bytes_read)
        assert opened.statistics.samples == 12  # counted when they are delivered
        assert [fact for batch in opened for fact in facts(batch)] == whole[1]
