"""Does this machine compute right: convolutions, exchanges between processes, and a run that is stopped and goes on."""

import json
import math
import os
import signal
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from pclkd.pipeline.pretext.base import TUPLE_VIEWS
from pclkd.pipeline.world import World
from pclkd.sharding.common.processes import run_tasks
from pclkd.training.compute.convolutions import check_convolutions as try_convolutions
from pclkd.training.compute.distributed import gather_rows, joined, summed
from pclkd.training.compute.precision import Precision
from pclkd.training.doctor.examination import Machine, Outcome, judged
from pclkd.training.loop.plan import plan_run
from pclkd.training.loop.trainer import train
from pclkd.training.models.memory_layout import layout_of, placed
from pclkd.training.models.registry import build_backbone
from pclkd.training.runs.checkpoint import load_checkpoint
from pclkd.training.runs.run_folder import METRICS_NAME
from pclkd.training.settings import override, preset

__all__ = ["Turn", "check_convolutions", "check_gloo", "check_nccl", "check_resume", "exchange"]

_NETWORKS = ("r3d", "c3d", "r2plus1d")
_EACH_S = 4.0
_EXCHANGE_LIMIT_S = 60
_NUMBERS = 1 << 18  # 1 MiB of float32
_STEPS, _STOP = 4, 2
_OFF_ON_GPU = 0.02  # of a loss: two runs of cuDNN round differently


def check_convolutions(machine: Machine) -> Outcome:
    """Those of the published networks, in their size on a GPU and in the demo's on a CPU, in the precision of a run."""
    precision = Precision(machine.precision, machine.device)
    width, *shape = (1.0, 16 * TUPLE_VIEWS, 16, 112) if machine.device.type == "cuda" else (0.25, 24, 8, 32)
    clips, frames, side = map(int, shape)
    count, worst = 0, 0.0
    for name in _NETWORKS:
        network = placed(build_backbone(name, width).train(), machine.device, "auto")
        fed = torch.zeros(clips, 3, frames, side, side, device=machine.device)
        fed = fed.contiguous(memory_format=layout_of(network))
        found = try_convolutions(network, fed, precision, trust_cpu=False, limit_s=_EACH_S)
        count += len(found)
        worst = max(worst, *(error for errors in found.values() for error in errors.values()), 0.0)
    figure = f"{count} convolutions of {', '.join(_NETWORKS)} in {precision.name}: off by {worst:.2g} at most"
    return Outcome("ok", figure)


@dataclass(frozen=True)
class Turn:
    """One process' part of an exchange.

    Attributes:
        rank: of the process.
        size: processes.
        port: where they meet, on this machine.
        gpu: exchange by NCCL between GPUs, not by gloo between processors.
    """

    rank: int
    size: int
    port: int
    gpu: bool = False

    @property
    def name(self) -> str:
        """For messages."""
        return f"rank {self.rank} of {self.size}"


def distinct(size: int) -> int:
    """How many numbers from 0 on each of so many processes may send, so that no sum is above 256."""
    return max(1, 256 // size - size)


def exchange(turn: Turn, _: Callable[[str], None]) -> tuple[float, float]:
    """Join, sum and gather, in a process of its own.

    Returns:
        The largest error of what came, and seconds of an all-reduce of 1 MiB.
    """
    signal.alarm(_EXCHANGE_LIMIT_S)  # an exchange that hangs ends this process
    torch.set_num_threads(1)
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(turn.port)}
    os.environ |= {"RANK": str(turn.rank), "WORLD_SIZE": str(turn.size)}
    device = torch.device("cuda", turn.rank) if turn.gpu else torch.device("cpu")
    if turn.gpu:
        torch.cuda.set_device(device)
    with joined(World(turn.rank, turn.size, turn.rank, turn.size), device):
        errors = []
        for kind in (torch.float32, torch.int64, torch.bfloat16):
            base = torch.arange(_NUMBERS, device=device) % distinct(turn.size)
            own = (base + turn.rank).to(kind)
            true = turn.size * base + turn.size * (turn.size - 1) // 2  # at most 256: exact in all three
            errors.append(float((summed(own).double() - true).abs().max()))
        rows = gather_rows(torch.full((2, 3), turn.rank, device=device))
        true_rows = torch.arange(turn.size, device=device).repeat_interleave(2)[:, None]
        errors.append(float((rows - true_rows).abs().max()))
        load = torch.ones(_NUMBERS, device=device)
        began = time.perf_counter()
        float(summed(load)[0])
        return max(errors), time.perf_counter() - began


Run = Callable[..., list[tuple[float, float]]]
_INTERFACE = (
    "GLOO_SOCKET_IFNAME or NCCL_SOCKET_IFNAME must name an interface of `ip link` (lo on one machine) or be unset"
)


def _exchanged(size: int, run: Run, *, gpu: bool) -> Outcome:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    try:
        found = run(exchange, [Turn(rank, size, port, gpu) for rank in range(size)], size, lambda _: None)
    except Exception as error:
        said = str(error).strip().partition("\n")[0]
        return Outcome("FAIL", f"{size} processes could not exchange anything: {said}", _INTERFACE)
    off, seconds = (max(column) for column in zip(*found, strict=True))
    figure = f"{size} processes: sums off by {off:g}, 1 MiB in {1000 * seconds:.1f} ms"
    return judged(figure, fails=not off <= 0, remedy="another version of torch; or NCCL_P2P_DISABLE=1 with NCCL")


def check_gloo(machine: Machine, run: Run = run_tasks) -> Outcome:  # noqa: ARG001
    """Sums and rows of two processes on the CPU."""
    return _exchanged(2, run, gpu=False)


def check_nccl(machine: Machine, run: Run = run_tasks) -> Outcome:  # noqa: ARG001
    """Sums and rows of as many processes as there are GPUs."""
    gpus = torch.cuda.device_count()
    if gpus < 2:
        return Outcome("ok", f"not needed with {gpus} GPUs")
    return _exchanged(gpus, run, gpu=True)


def check_resume(machine: Machine, meanwhile: Callable[[Path], object] = lambda _: None) -> Outcome:
    """A tiny run that is stopped and goes on, beside one that is not: losses, weights and memories.

    Args:
        machine: to examine.
        meanwhile: called with the run folder between the two sittings.
    """
    whole, halves = machine.scratch / "whole", machine.scratch / "halves"
    _train(machine, whole, _STEPS)
    _train(machine, halves, _STOP)
    meanwhile(halves)
    _train(machine, halves, _STEPS)
    losses = [_losses(folder) for folder in (whole, halves)]
    difference = max(abs(a - b) / abs(a) if math.isfinite(b) else math.inf for a, b in zip(*losses, strict=True))
    weights = [load_checkpoint(folder).model for folder in (whole, halves)]
    same = all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    gpu = machine.device.type == "cuda"
    equal = "equal" if same else "not equal"
    return judged(
        f"{_STEPS} steps, stopped after {_STOP}: losses differ by {difference:.2g}, weights are {equal}",
        fails=difference > (_OFF_ON_GPU if gpu else 0) or not (same or gpu),
        remedy="OMP_NUM_THREADS=1; if that does not help, another version of torch: figures here cannot be repeated",
    )


def _train(machine: Machine, folder: Path, steps: int) -> None:
    changes = (
        *("backbone.width=0.125", "loader.batch_size=2", "loader.threads=1", "pcl.negatives=4", "pcl.contrast=bank"),
        *("epochs=2", "log_every=1", "evaluation.every=0", "compile=off", "tuples.clip_stride=1"),
        *("tuples.clip_frames=8", "tuples.remote_distance=1", f"precision={machine.precision}"),
    )
    settings = override(preset("demo"), changes)
    train(plan_run(folder, machine.shards, settings, resume=True, max_steps=steps, world=World()))


def _losses(folder: Path) -> list[float]:
    records = map(json.loads, (folder / METRICS_NAME).read_text().splitlines())
    return [float(record["loss"]) for record in records if record["kind"] == "step"]
