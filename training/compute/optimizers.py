"""Optimisers by name: SGD as published, AdamW, and LARS for large batches."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import nn

from pclkd.training.compute.fused_optimizer import can_fuse, start_momentum
from pclkd.training.compute.settings import OptimizerSettings

__all__ = ["Lars", "build_optimizer"]


def build_optimizer(network: nn.Module, settings: OptimizerSettings, global_batch: int) -> torch.optim.Optimizer:
    """The optimiser of a network's parameters, fused where its device can.

    Args:
        network: whose parameters are trained, on their device.
        settings: which one, and its numbers.
        global_batch: samples an update, on all processes.
    """
    lr, momentum, decay = settings.scaled_lr(global_batch), settings.momentum, settings.weight_decay
    device = next(network.parameters()).device
    if settings.name == "sgd":
        fused = can_fuse(torch.optim.SGD, device) or None  # None leaves torch its second choice, False does not
        sgd = torch.optim.SGD(network.parameters(), lr=lr, momentum=momentum, weight_decay=decay, fused=fused)
        start_momentum(sgd)
        return sgd
    # Biases and norms: decay pulls them where they should not be, and LARS's ratio means nothing for them.
    groups: list[dict[str, Any]] = [
        {"params": [p for p in network.parameters() if p.ndim > 1], "weight_decay": decay},
        {"params": [p for p in network.parameters() if p.ndim <= 1], "weight_decay": 0.0, "adapt": False},
    ]
    if settings.name == "adamw":
        for group in groups:
            group.pop("adapt", None)
        fused = can_fuse(torch.optim.AdamW, device) or None
        return torch.optim.AdamW(groups, lr=lr, betas=(momentum, 0.999), fused=fused)
    return Lars(groups, lr=lr, momentum=momentum, weight_decay=decay)


class Lars(torch.optim.Optimizer):
    """Layer-wise adaptive rate scaling: SGD whose step in each layer is a fixed share of that layer's weights.

        g <- g + decay w;   g <- g * trust |w| / |g|;   v <- momentum v + g;   w <- w - lr v

    torch has none; torchlars and apex need a compiler. Like torch's fused optimisers it takes gradients that a
    GradScaler has scaled (`grad_scale`), and leaves an update out where the device says so (`found_inf`).

    Source: You et al., "Large Batch Training of Convolutional Networks", arXiv 1708.03888.

    Args:
        params: parameters or groups; a group with `adapt=False` takes plain SGD steps.
        lr: learning rate.
        momentum: share of the old step in the new one.
        weight_decay: L2 penalty.
        trust: the coefficient.
    """

    def __init__(
        self,
        params: Iterable[Any],
        *,
        lr: float,
        momentum: float = 0.9,
        weight_decay: float = 0.0,
        trust: float = 1e-3,
    ) -> None:
        defaults = {"lr": lr, "momentum": momentum, "weight_decay": weight_decay, "trust": trust, "adapt": True}
        super().__init__(params, defaults)
        self._step_supports_amp_scaling = True  # what GradScaler asks before it waits for the device

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Make one update; where there is a `closure`, it is called first and its value returned."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        scale: torch.Tensor | None = getattr(self, "grad_scale", None)
        found_inf: torch.Tensor | None = getattr(self, "found_inf", None)
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is None:
                    continue
                unscaled = weight.grad if scale is None else weight.grad / scale
                gradient = unscaled.add(weight, alpha=group["weight_decay"])
                if group["adapt"]:
                    sizes = weight.norm(), gradient.norm()
                    ratio = torch.where((sizes[0] > 0) & (sizes[1] > 0), group["trust"] * sizes[0] / sizes[1], 1.0)
                    gradient.mul_(ratio)
                state = self.state[weight]
                if "momentum_buffer" not in state:
                    state["momentum_buffer"] = torch.zeros_like(weight)
                momentum = state["momentum_buffer"]
                if found_inf is None:
                    weight.sub_(momentum.mul_(group["momentum"]).add_(gradient), alpha=group["lr"])
                else:
                    moved = group["momentum"] * momentum + gradient
                    weight.copy_(torch.where(found_inf > 0, weight, weight - group["lr"] * moved))
                    momentum.copy_(torch.where(found_inf > 0, momentum, moved))
        return loss
