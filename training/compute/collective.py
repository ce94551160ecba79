"""Rows from all processes."""

import torch
import torch.distributed as dist

__all__ = ["gather_rows", "gather_rows_together", "gather_rows_with_gradient", "is_alone"]


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


def is_alone() -> bool:
    """Whether this process works by itself, or in a job of one."""
    return not (dist.is_available() and dist.is_initialized()) or dist.get_world_size() == 1
