"""Which device this process works on, and that each of its threads works on no other.

CUDA's current device belongs to a thread, and a new thread's is GPU 0: whatever asks for "the current stream" there
makes a context of several hundred MiB on GPU 0, from every process of the machine.
"""

import torch

from pclkd.pipeline.world import World
from pclkd.sharding.common.errors import InputError

__all__ = ["exact", "make_current", "own_device"]


def own_device(world: World | None = None) -> torch.device:
    """This process' GPU where there is one, made the thread's current one; else the CPU.

    The processes of one job need a GPU each; jobs of one process (a study's) take turns on them. Where every process
    sees a single GPU, as SLURM binds them, whether two see the same one is told when they join.

    Args:
        world: the processes; by default as torchrun tells them in the environment.

    Raises:
        InputError: a job with more processes on this machine than the GPUs that they see.
    """
    world = world or World.from_environment()
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if not gpus:
        return torch.device("cpu")
    if world.size > 1 and 1 < gpus < world.local_size:
        raise InputError(
            f"{world.local_size} processes on this machine for {gpus} GPUs, and two cannot share one",
            remedy=f"torchrun --nproc-per-node={gpus}, or CUDA_VISIBLE_DEVICES= to train on the CPU",
        )
    device = torch.device("cuda", world.local_rank % gpus)
    make_current(device)
    return device


def make_current(device: torch.device) -> None:
    """Have this thread work on the device; every thread that touches CUDA begins so. Nothing to do for a CPU."""
    if device.type == "cuda":
        torch.cuda.set_device(device)


def exact(device: torch.device) -> torch.device:
    """The device with its number: "cuda" alone is the current one of the thread that asks."""
    if device.type == "cuda" and device.index is None:
        return torch.device("cuda", torch.cuda.current_device())
    return device
