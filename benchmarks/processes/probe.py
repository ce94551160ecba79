"""Run by torchrun: one process of a training job that makes a pass whenever it is told to, and sleeps in between.

Each process connects to the socket, says what it is once it has made its first steps, and then answers every line "go"
with what the pass was. Where the socket ends, it ends: a job never outlives whoever started it.

    python -m torch.distributed.run --standalone --nproc-per-node=N -m pclkd.benchmarks.processes.probe SOCKET JOB
"""

import json
import os
import socket
import sys
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, TextIO

from pclkd.sharding.common.processes import die_with

if TYPE_CHECKING:
    import torch

    from pclkd.pipeline.loader.loader import ClipLoader
    from pclkd.pipeline.world import World

__all__ = ["JobPlan", "main"]


@dataclass(frozen=True)
class JobPlan:
    """What each process of a job does.

    Attributes:
        data: the shard set.
        split: whose train part is used.
        backbone, teacher, width: see StepNetworks.
        batch_size: samples of each process.
        frames: of a clip.
        crop: pixels a side.
        steps: of a pass.
        cores: that the whole job may use; 0 is all that there are.
    """

    data: str
    split: int
    backbone: str
    teacher: str | None
    width: float
    batch_size: int
    frames: int
    crop: int
    steps: int
    cores: int = 0

    def to_json(self) -> str:
        """One line."""
        return json.dumps(asdict(self))


def main() -> None:
    """Join, get ready, obey."""
    die_with(os.getppid())  # a launcher that is killed cannot end its processes, which have a session of their own
    address, plan = sys.argv[1], JobPlan(**json.loads(sys.argv[2]))
    if plan.cores:  # before anything starts threads
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: plan.cores])
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(address)
        with connection.makefile("rw", encoding="utf-8") as line:
            try:
                _serve(plan, line)
            except (BrokenPipeError, ConnectionResetError):
                pass  # nobody listens any more
            except Exception as error:
                _tell(line, {"error": f"{type(error).__name__}: {error}"})
                raise


def _serve(plan: JobPlan, line: TextIO) -> None:
    import torch

    from pclkd.benchmarks.measuring.clip_shape import synchronise
    from pclkd.benchmarks.measuring.counters import CollectiveBytes
    from pclkd.benchmarks.steps.case import StepNetworks, StepOptions
    from pclkd.pipeline.world import World
    from pclkd.training.compute.distributed import choose_device, joined

    world = World.from_environment()
    device = choose_device(world)
    # Compiling for every job would take longer than measuring.
    options = StepOptions(compile="off", layout="channels-last")
    networks = StepNetworks(plan.backbone, plan.teacher, plan.width, options)
    precision, rows = networks.precision(device), plan.steps * plan.batch_size * world.size
    torch.manual_seed(0)
    with joined(world, device), _loader(plan, world, device) as loader:
        for batch in loader.epoch(0):  # DistributedDataParallel arranges its buckets in the first two steps
            step = networks.build(batch, rows, distil=True, world=world)
            step(batch)
            step(batch)
            with CollectiveBytes() as exchanged:
                step(batch)
            break
        synchronise(device)
        _tell(line, {"rank": world.rank, "device": device.type, "precision": precision.name, **exchanged.by_kind})
        while line.readline():
            before = loader.statistics.as_dict()
            for batch in loader.epoch(0):
                step(batch)
            synchronise(device)
            after = loader.statistics.as_dict()
            _tell(line, {name: after[name] - before[name] for name in after})


def _loader(plan: JobPlan, world: "World", device: "torch.device") -> "ClipLoader":
    import numpy as np

    from pclkd.benchmarks.measuring.clip_shape import ClipShape
    from pclkd.pipeline.opening import clip_loader
    from pclkd.sharding.shards.index import ShardIndex

    index = ShardIndex.open(plan.data)
    # As many as fill the pass of all processes; a small set is gone through more than once.
    samples = np.resize(index.split_samples(plan.split, "train"), plan.steps * plan.batch_size * world.size)
    config = ClipShape(plan.batch_size, plan.frames, plan.crop).config
    return clip_loader(index, config, world, samples=samples, device=device)


def _tell(line: TextIO, what: dict[str, Any]) -> None:
    line.write(json.dumps(what) + "\n")
    line.flush()


if __name__ == "__main__":
    main()
