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
    from pclkd.training.compute.precision import Precision
    from pclkd.training.compute.step import TrainStep

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
    from pclkd.benchmarks.loading.case import synchronise
    from pclkd.benchmarks.measuring.counters import CollectiveBytes
    from pclkd.pipeline.world import World
    from pclkd.training.compute.distributed import choose_device, joined
    from pclkd.training.compute.precision import Precision, check_conv3d

    world = World.from_environment()
    device = choose_device(world)
    precision = Precision("auto", device)
    check_conv3d(precision)
    with joined(world, device), _loader(plan, world, device) as loader:
        step = _step(plan, world, device, precision)
        for batch in loader.epoch(0):  # DistributedDataParallel arranges its buckets in the first two steps
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

    from pclkd.benchmarks.loading.case import ClipShape
    from pclkd.pipeline.opening import clip_loader
    from pclkd.sharding.shards.index import ShardIndex

    index = ShardIndex.open(plan.data)
    # As many as fill the pass of all processes; a small set is gone through more than once.
    samples = np.resize(index.split_samples(plan.split, "train"), plan.steps * plan.batch_size * world.size)
    config = ClipShape(plan.batch_size, plan.frames, plan.crop).config
    return clip_loader(index, config, world, samples=samples, device=device)


def _step(plan: JobPlan, world: "World", device: "torch.device", precision: "Precision") -> "TrainStep":
    """As the trainer builds it."""
    import torch

    from pclkd.training.compute.distributed import wrapped
    from pclkd.training.compute.settings import OptimizerSettings
    from pclkd.training.compute.step import TrainStep
    from pclkd.training.models.memory_layout import placed
    from pclkd.training.models.pcl_model import PclModel
    from pclkd.training.models.registry import build_backbone
    from pclkd.training.objective.objective import Objective, PclSettings

    def network(name: str) -> PclModel:
        return placed(PclModel(build_backbone(name, plan.width)), device, "channels-last")

    torch.manual_seed(0)
    student = wrapped(network(plan.backbone), world, device)
    teachers = [network(plan.teacher)] if plan.teacher is not None else []
    rows = plan.steps * plan.batch_size * world.size
    objective = Objective(student, rows, PclSettings(), 0, teachers=teachers).to(device).train()
    return TrainStep(objective, student, OptimizerSettings(), precision, plan.batch_size * world.size)


def _tell(line: TextIO, what: dict[str, Any]) -> None:
    line.write(json.dumps(what) + "\n")
    line.flush()


if __name__ == "__main__":
    main()
