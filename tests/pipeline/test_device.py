"""Which GPU a process takes, and that its threads take no other; CUDA's calls are written down, no GPU is needed."""

import threading
from pathlib import Path

import pytest
import torch

from pclkd.pipeline import clip_loader
from pclkd.pipeline.clips.sampling import TupleSettings
from pclkd.pipeline.device import exact, own_device
from pclkd.pipeline.loader.stages import Stages
from pclkd.pipeline.world import World
from pclkd.sharding.common.errors import InputError

Calls = list[tuple[str, torch.device]]


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Calls:
    """The threads that called torch.cuda.set_device, and for what."""
    found: Calls = []
    monkeypatch.setattr(
        torch.cuda, "set_device", lambda device: found.append((threading.current_thread().name, device))
    )
    return found


def gpus(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)


@pytest.mark.parametrize(
    ("count", "world", "expected"),
    [
        (0, World(1, 2, 1, 2), "cpu"),
        (1, World(), "cuda:0"),
        (2, World(1, 2, 1, 2), "cuda:1"),
        (4, World(5, 6, 1, 2), "cuda:1"),
        (2, World(local_rank=2, local_size=3), "cuda:0"),  # the third job of a study: they take turns
        (2, World(local_rank=3, local_size=4), "cuda:1"),
        (
            1,
            World(3, 4, 3, 4),
            "cuda:0",
        ),  # every process sees its own alone; two that see the same are told in `joined`
    ],
)
def test_each_process_takes_a_gpu_of_its_own_as_the_current_one(
    count: int, world: World, expected: str, monkeypatch: pytest.MonkeyPatch, calls: Calls
) -> None:
    gpus(monkeypatch, count)
    assert own_device(world) == torch.device(expected)
    assert calls == ([] if expected == "cpu" else [("MainThread", torch.device(expected))])


def test_more_processes_than_gpus_are_refused_in_one_line(monkeypatch: pytest.MonkeyPatch, calls: Calls) -> None:
    gpus(monkeypatch, 2)
    for rank in range(3):
        with pytest.raises(InputError, match=r"3 processes on this machine for 2 GPUs.*--nproc-per-node=2") as refused:
            own_device(World(rank, 3, rank, 3))
        assert "\n" not in str(refused.value)
    assert not calls


def test_a_gpu_without_a_number_is_the_current_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 3)
    assert [exact(torch.device(name)) for name in ("cuda", "cuda:1", "cpu")] == [
        torch.device(name) for name in ("cuda:3", "cuda:1", "cpu")
    ]


def test_the_thread_that_decodes_works_on_the_loaders_gpu_before_anything_else(
    synthetic_shards: Path, monkeypatch: pytest.MonkeyPatch, calls: Calls
) -> None:
    tuples = TupleSettings(clip_frames=8, clip_stride=12, remote_distance=8)
    opened = clip_loader(synthetic_shards, device=torch.device("cpu"), batch_size=2, crop=32, tuples=tuples, threads=1)
    begun: list[int] = []
    positions = Stages._read

    def noting(self: Stages, rows: object) -> object:
        begun.append(len(calls))
        return positions(self, rows)  # type: ignore[arg-type]

    monkeypatch.setattr(Stages, "_read", noting)
    with opened as loader:
        loader.calibrate()
        (decoder,) = loader._decoders
        object.__setattr__(decoder.graph, "device", torch.device("cuda", 1))  # all else stays on the CPU
        batch = next(iter(loader))
        object.__setattr__(decoder.graph, "device", torch.device("cpu"))
    assert len(batch.clips) == 2
    assert calls[:1] == [("pclkd-decode", torch.device("cuda", 1))]
    assert begun and min(begun) == 1
