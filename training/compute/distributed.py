"""Joining and leaving a job of several processes, and what they exchange and decide together."""

import itertools
import os
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import TypeVar, cast

import torch
import torch.distributed as dist
import torch.distributed.distributed_c10d as c10d
from torch import nn
from torch.distributed.rendezvous import rendezvous
from torch.nn.parallel import DistributedDataParallel

from pclkd.pipeline.device import own_device
from pclkd.pipeline.world import World
from pclkd.sharding.common.errors import InputError

__all__ = [
    "agreed",
    "choose_device",
    "first_process_has",
    "gather_rows",
    "gather_rows_together",
    "gather_rows_with_gradient",
    "is_alone",
    "joined",
    "meet",
    "summed",
    "wrapped",
]

Choice = TypeVar("Choice", bound=str)


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


def first_process_has(tensor: torch.Tensor) -> None:
    """Give every process what the first one has, in place; every process must call."""
    if not is_alone():
        dist.broadcast(tensor, src=0)


def is_alone() -> bool:
    """Whether this process works by itself, or in a job of one."""
    return not (dist.is_available() and dist.is_initialized()) or dist.get_world_size() == 1


_CONNECT = timedelta(seconds=30)
_START = timedelta(minutes=30)
_COLLECTIVE = timedelta(hours=2)


def choose_device(world: World | None = None) -> torch.device:
    """This process' GPU where there is one, else the CPU; see `own_device`.

    On a GPU cuDNN is told to time its convolutions for each new shape and keep the fastest.

    Args:
        world: the processes; by default as torchrun tells them in the environment.

    Raises:
        InputError: the processes of a job would have to share a GPU.
    """
    device = own_device(world)
    if device.type == "cuda":
        # Training and evaluation have one shape each (short batches are filled up), so the trial is paid once, in the
        # first step. What it picks may differ between two runs, and with it the rounding.
        torch.backends.cudnn.benchmark = True
    return device


@contextmanager
def joined(world: World, device: torch.device) -> Iterator[None]:
    """A process group around the block where there are several processes; one alone, under torchrun too, has none.

    A process that does not find the others within half a minute fails, so that torchrun starts all of them again.
    Afterwards the limit is two hours, because the other processes wait while the first one evaluates.

    Validate all input before: torchrun turns whatever a child raises into exit code 1.

    An exception that has an attribute `on_all_ranks` leaves the block in every process.

    Raises:
        InputError: two processes see the same GPU, of which NCCL would die; or some do not come.
    """
    if world.size == 1:
        yield
        return
    store, rank, size = next(rendezvous("env://", timeout=_CONNECT))
    # torchrun may hand the same store to a restarted job: addresses of the attempt before must not be found in it.
    attempt = c10d.PrefixStore(f"attempt_{os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}", store)
    gpu = device if device.type == "cuda" else None
    if gpu is not None:
        name = str(torch.cuda.get_device_properties(gpu).uuid)
        refuse_shared(collected(attempt, rank, size, "the names of the GPUs", name, _CONNECT))
    # With its device NCCL connects now, not in the first exchange, whose limit is long.
    backend = "nccl" if gpu is not None else "gloo"
    dist.init_process_group(backend, store=attempt, rank=rank, world_size=size, timeout=_CONNECT, device_id=gpu)
    # Newer releases have a public name; the older one warns there.
    set_timeout = getattr(c10d, "set_timeout", None) or c10d._set_pg_timeout
    set_timeout(_COLLECTIVE)
    try:
        yield
    except BaseException as error:
        # NCCL's own end waits for the others, who wait in their next exchange for this process: torchrun ends them once
        # it is gone.
        if gpu is None or getattr(error, "on_all_ranks", False):
            dist.destroy_process_group()
        error.met_at_work = True  # type: ignore[attr-defined]  # others may be well: see CleanGroup
        raise
    dist.destroy_process_group()


def meet(what: str, limit: timedelta = _START) -> None:
    """Wait for all processes, without their devices.

    Before the first exchange each process compiles, and the first one tries out what is fastest, for as long as it
    takes: an exchange's own limit would be met by the slowest machine of the job.

    Args:
        what: they come to, for messages.
        limit: for all of them.

    Raises:
        InputError: some have not come by then; their ranks are told.
    """
    if not is_alone():
        collected(c10d._get_default_store(), dist.get_rank(), dist.get_world_size(), what, "", limit)


def agreed(what: str, choose: Callable[[], Choice], limit: timedelta = _START) -> Choice:
    """What the first process chooses, on all of them: what is measured comes out differently on each.

    Args:
        what: is chosen, for messages.
        choose: called in the first process alone.
        limit: for its choice to come.

    Raises:
        InputError: it has not come by then.
    """
    if is_alone():
        return choose()
    first = dist.get_rank() == 0
    said = collected(
        c10d._get_default_store(), dist.get_rank(), dist.get_world_size(), what, choose() if first else "", limit
    )
    return cast(Choice, said[0])


_meetings = itertools.count()  # the processes of a job come to the same ones, in the same order


def collected(store: c10d.Store, rank: int, size: int, what: str, said: str, limit: timedelta) -> list[str]:
    """What every process said, by rank.

    Args:
        store: of the job.
        rank: of this process.
        size: of the job.
        what: the occasion, for messages; all processes must come to all occasions in the same order.
        said: by this process.
        limit: for all to come.

    Raises:
        InputError: some have not come by then; their ranks are told.
    """
    occasion = f"{next(_meetings)} {what}"
    keys = [f"{occasion} {number}" for number in range(size)]
    store.set(keys[rank], said)
    try:
        store.wait(keys, limit)
    except RuntimeError as error:
        absent = [str(number) for number, key in enumerate(keys) if not store.check([key])]
        raise InputError(
            f"{what}: rank {', '.join(absent)} of {size} has not come within {limit.total_seconds():g} s",
            remedy="look at what that process printed, and at its machine; --resume goes on from the last checkpoint",
        ) from error
    return [store.get(key).decode() for key in keys]


def refuse_shared(gpus: list[str]) -> None:
    """Refuse a job whose processes share a GPU.

    Args:
        gpus: a name that no other GPU has, by rank.

    Raises:
        InputError: two ranks have the same one.
    """
    name, times = Counter(gpus).most_common(1)[0]
    if times > 1:
        ranks = ", ".join(str(rank) for rank, gpu in enumerate(gpus) if gpu == name)
        raise InputError(
            f"ranks {ranks} share the GPU {name}, and NCCL needs one for each",
            remedy="start as many processes on a machine as it has GPUs (torchrun --nproc-per-node)",
        )


def wrapped(model: nn.Module, world: World, device: torch.device) -> nn.Module:
    """The model, on its device, for training: in DistributedDataParallel where there are several processes.

    Raises:
        InputError: some processes do not come so far.
    """
    if world.size == 1:
        return model
    meet("the start of training")
    gpus = [device.index] if device.type == "cuda" else None
    # Gradients live in the buckets that are exchanged, instead of being copied there and back.
    return DistributedDataParallel(model, device_ids=gpus, gradient_as_bucket_view=True)
