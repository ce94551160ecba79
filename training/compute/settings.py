"""Settings of how a step is computed; in a module of their own, so that reading them does not wait for torch."""

from typing import Annotated, Literal

from pydantic import Field

from pclkd.sharding.common.settings import Settings

__all__ = ["Compile", "GpuForms", "Layout", "OptimizerSettings"]


Layout = Literal["auto", "contiguous", "channels-last"]


Compile = Literal["auto", "off", "on", "cuda-graphs"]


GpuForms = Literal["auto", "off", "on"]


class OptimizerSettings(Settings):
    """How weights are updated; the defaults are the published ones."""

    name: Literal["sgd", "adamw", "lars"] = "sgd"
    """sgd: as published; adamw; lars: each layer's step in proportion to its weights, for batches of thousands."""
    lr: float = Field(default=0.01, gt=0, le=100)
    """Learning rate at the start, after the warm-up."""
    reference_batch: int = Field(default=0, ge=0)
    """Global batch (all processes, accumulated) that lr is meant for: another one scales lr in proportion; 0: never."""
    momentum: float = Field(default=0.9, ge=0, lt=1)
    """Momentum; beta 1 of adamw."""
    weight_decay: float = Field(default=5e-4, ge=0)
    """L2 penalty (sgd, lars), decoupled decay (adamw)."""
    schedule: Literal["plateau", "cosine", "step"] = "plateau"
    """plateau: the rate falls to a tenth when the training loss rests, as published; cosine: half a cosine to 0; step:
    to a tenth at the milestones."""
    patience: int = Field(default=50, ge=1)
    """Epochs without a lower training loss that are waited for; the rate falls after the next one (plateau)."""
    milestones: tuple[Annotated[float, Field(gt=0, lt=1)], ...] = (0.5, 0.75)
    """Shares of the epochs after which the rate falls (step)."""
    warmup_epochs: int = Field(default=0, ge=0)
    """Epochs over which the rate rises linearly from a hundredth, step by step."""
    accumulate: int = Field(default=1, ge=1)
    """Batches whose gradients are averaged before an update."""
    average_decay: float = Field(default=0.0, ge=0, lt=1)
    """Share of the old value kept each step by a moving average of weights and batch-norm statistics; the average is
    what is measured, exported and taught by; 0: none."""
    clip_norm: float = Field(default=0.0, ge=0)
    """Largest norm of the whole gradient; 0 leaves it as it is."""

    def scaled_lr(self, global_batch: int) -> float:
        """The learning rate for this many samples an update: linear in it, where a reference is set.

        Source: Goyal et al., "Accurate, Large Minibatch SGD", arXiv 1706.02677.
        """
        return self.lr * global_batch / self.reference_batch if self.reference_batch else self.lr
