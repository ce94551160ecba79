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

__all__ = ["choose_device", "joined", "unwrapped", "wrapped"]

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


def wrapped(model: nn.Module, world: World, device: torch.device, *, sync_batch_norm: bool = False) -> nn.Module:
    """The model for training: in DistributedDataParallel where there are several processes.

    Args:
        model: on its device; with `sync_batch_norm` its batch norms are replaced in place.
        world: the processes.
        device: of this process.
        sync_batch_norm: whether batch norms see the batches of all processes.
    """
    if world.size == 1:
        return model
    if sync_batch_norm:
        nn.SyncBatchNorm.convert_sync_batchnorm(model)  # type: ignore[no-untyped-call]
    return DistributedDataParallel(model, device_ids=[device.index] if device.type == "cuda" else None)


def unwrapped(model: nn.Module) -> nn.Module:
    """The model inside DistributedDataParallel, or the model."""
    return model.module if isinstance(model, DistributedDataParallel) else model
