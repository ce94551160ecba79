"""Joining and leaving a job of several processes."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import torch
import torch.distributed as dist
import torch.distributed.distributed_c10d as c10d
from torch import nn
from torch.distributed.rendezvous import rendezvous
from torch.nn.parallel import DistributedDataParallel

from pclkd.pipeline.world import World

__all__ = [
    "choose_device",
    "gather_rows",
    "gather_rows_together",
    "gather_rows_with_gradient",
    "is_alone",
    "joined",
    "summed",
    "wrapped",
]


def gather_rows(tensor: torch.Tensor) -> torch.Tensor:
    """The rows of all processes, in the order of their ranks; the tensor itself in a job of one process.

    Every rank gets the same rows in the same order, so what is computed from them alone is equal on all ranks.

    Args:
        tensor: [B, ...], with the same shape and type on every rank.

    Returns:
        [ranks * B, ...], without a gradient when there are several processes.
    """
    if is_alone():
        return tensor
    own = tensor.detach().contiguous()
    parts = [torch.empty_like(own) for _ in range(dist.get_world_size())]
    dist.all_gather(parts, own)
    return torch.cat(parts)


def gather_rows_together(*tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """As `gather_rows` for each of several tensors, in one exchange: small ones cost its delay and little more.

    Args:
        tensors: [B, ...] of any shapes and types, each the same on every rank.
    """
    if is_alone():
        return tensors
    bytes_of = [tensor.detach().contiguous().reshape(len(tensor), -1).view(torch.uint8) for tensor in tensors]
    lengths = [part.shape[1] for part in bytes_of]
    everyones = torch.split(gather_rows(torch.cat(bytes_of, dim=1)), lengths, dim=1)
    return tuple(
        part.contiguous().view(tensor.dtype).reshape(-1, *tensor.shape[1:])
        for part, tensor in zip(everyones, tensors, strict=True)
    )


def gather_rows_with_gradient(tensor: torch.Tensor) -> tuple[torch.Tensor, int]:
    """As `gather_rows`, but the gradient of what every rank does with these rows comes back to them.

    DistributedDataParallel divides gradients by the number of ranks, as if each rank's loss were a mean over its own
    samples; that holds here too, because each rank's loss is one.

    Args:
        tensor: [B, ...], with the same shape and type on every rank.

    Returns:
        [ranks * B, ...], and the place of this process's first row in it.
    """
    if is_alone():
        return tensor, 0
    from torch.distributed.nn.functional import all_gather

    everyones = all_gather(tensor.contiguous())  # type: ignore[no-untyped-call]
    return torch.cat(everyones), dist.get_rank() * len(tensor)


def summed(tensor: torch.Tensor) -> torch.Tensor:
    """The sum of the tensors of all processes, in place; the tensor itself in a job of one process."""
    if not is_alone():
        dist.all_reduce(tensor)
    return tensor


def is_alone() -> bool:
    """Whether this process works by itself, or in a job of one."""
    return not (dist.is_available() and dist.is_initialized()) or dist.get_world_size() == 1


_CONNECT = timedelta(seconds=30)
_COLLECTIVE = timedelta(hours=2)


def choose_device(world: World) -> torch.device:
    """This process' GPU where there is one, else the CPU.

    On a GPU cuDNN is told to time its convolutions for each new shape and keep the fastest.
    """
    if torch.cuda.is_available():
        # Training and evaluation have one shape each (short batches are filled up), so the trial is paid once, in the
        # first step. What it picks may differ between two runs, and with it the rounding.
        torch.backends.cudnn.benchmark = True
        device = torch.device("cuda", world.local_rank % torch.cuda.device_count())
        torch.cuda.set_device(device)
        return device
    return torch.device("cpu")


@contextmanager
def joined(world: World, device: torch.device) -> Iterator[None]:
    """A process group around the block where there are several processes.

    A process that does not find the others within half a minute fails, so that torchrun starts all of them again.
    Afterwards the limit is two hours, because the other processes wait while the first one evaluates.

    Validate all input before: torchrun turns whatever a child raises into exit code 1.
    """
    if world.size == 1:
        yield
        return
    store, rank, size = next(rendezvous("env://", timeout=_CONNECT))
    # torchrun may hand the same store to a restarted job: addresses of the attempt before must not be found in it.
    attempt = c10d.PrefixStore(f"attempt_{os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}", store)
    backend = "nccl" if device.type == "cuda" else "gloo"
    dist.init_process_group(backend, store=attempt, rank=rank, world_size=size, timeout=_CONNECT)
    # Newer releases have a public name; the older one warns there.
    set_timeout = getattr(c10d, "set_timeout", None) or c10d._set_pg_timeout
    set_timeout(_COLLECTIVE)
    try:
        yield
    finally:
        dist.destroy_process_group()


def wrapped(model: nn.Module, world: World, device: torch.device) -> nn.Module:
    """The model, on its device, for training: in DistributedDataParallel where there are several processes."""
    if world.size == 1:
        return model
    return DistributedDataParallel(model, device_ids=[device.index] if device.type == "cuda" else None)
