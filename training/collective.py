"""Rows from all processes."""

import torch
import torch.distributed as dist

__all__ = ["gather_rows"]


def gather_rows(tensor: torch.Tensor) -> torch.Tensor:
    """The rows of all processes, in the order of their ranks; the tensor itself in a job of one process.

    Every rank gets the same rows in the same order, so what is computed from them alone is equal on all ranks.

    Args:
        tensor: [B, ...], with the same shape and type on every rank.

    Returns:
        [ranks * B, ...], without a gradient when there are several processes.
    """
    if not (dist.is_available() and dist.is_initialized()) or dist.get_world_size() == 1:
        return tensor
    own = tensor.detach().contiguous()
    parts = [torch.empty_like(own) for _ in range(dist.get_world_size())]
    dist.all_gather(parts, own)
    return torch.cat(parts)
