"""torch's fused optimisers, one kernel for all weights: where they can be trusted, and how their state is kept.

They also leave an update out on the device's own word (`found_inf`), so nobody has to wait for it. Two traps of torch
(2.14) are dealt with here: an update that is left out before the first one that is made leaves SGD with a momentum that
nobody has initialised, and the kernels read a state whose strides differ from the weight's in the wrong order.
"""

from functools import cache
from typing import Any

import torch

__all__ = ["can_fuse", "load_optimizer", "start_momentum"]

_IMPLEMENTATION = ("fused", "foreach", "capturable", "differentiable")


@cache
def can_fuse(kind: type[torch.optim.Optimizer], device: torch.device) -> bool:
    """Whether this device has a fused kernel that leaves weights and state alone when `found_inf` says so.

    Waits for the device, the first time it is asked.

    Args:
        kind: torch's SGD or AdamW.
        device: of the weights.
    """
    if kind is torch.optim.SGD:
        extra: dict[str, Any] = {"momentum": 0.9}
    elif kind is torch.optim.AdamW:
        extra = {}
    else:
        return False
    weight = torch.nn.Parameter(torch.ones(4, device=device))
    try:
        optimizer: torch.optim.Optimizer = kind([weight], lr=0.5, fused=True, **extra)
        start_momentum(optimizer)
        weight.grad = torch.ones_like(weight)
        optimizer.step()
        kept = [weight.detach().clone(), *(value.clone() for value in optimizer.state[weight].values())]
        weight.grad = torch.full_like(weight, torch.inf)
        optimizer.found_inf = torch.ones((), device=device)  # type: ignore[attr-defined]
        optimizer.step()
    except RuntimeError:
        return False
    now = [weight.detach(), *optimizer.state[weight].values()]
    moved = bool((kept[0] != 1).all())
    return moved and all(torch.equal(after, before) for after, before in zip(now, kept, strict=True))


def start_momentum(optimizer: torch.optim.Optimizer) -> None:
    """Give a fused SGD the momentum 0 where it has none yet: its first update is the same as without."""
    if not isinstance(optimizer, torch.optim.SGD):
        return
    for group in optimizer.param_groups:
        if group["fused"] and group["momentum"]:
            for weight in group["params"]:
                optimizer.state[weight].setdefault("momentum_buffer", torch.zeros_like(weight))


def load_optimizer(optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> None:
    """Go on with another optimiser's state, in this one's own implementation and memory layout.

    A run may be resumed on another machine: fused or not, and with weights in another order in memory.

    Args:
        optimizer: of the same kind, over weights of the same shapes.
        state: its `state_dict()`.

    Raises:
        ValueError: it is of another optimiser, or of weights of other shapes.
    """
    groups = [
        {**theirs, **{name: own[name] for name in _IMPLEMENTATION if name in own}}
        for theirs, own in zip(state["param_groups"], optimizer.param_groups, strict=True)
    ]
    optimizer.load_state_dict({**state, "param_groups": groups})
    for weight, values in optimizer.state.items():
        for name, value in values.items():
            if isinstance(value, torch.Tensor) and value.shape not in (weight.shape, torch.Size()):
                raise ValueError(f"{name} of shape {tuple(value.shape)} for a weight of {tuple(weight.shape)}")
            if isinstance(value, torch.Tensor) and value.shape == weight.shape and value.stride() != weight.stride():
                values[name] = torch.empty_like(weight).copy_(value)
    start_momentum(optimizer)
