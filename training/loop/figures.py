"""Figures of steps that are read a step late, so that the device always has the next step to work on."""

import math
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

from pclkd.pipeline.batch import ClipBatch
from pclkd.training.compute.distributed import gather_rows

__all__ = ["DeferredFigures", "HostCopy", "RunPosition", "StepFigures"]


class HostCopy:
    """Copies a tensor without waiting for the device; whoever reads it waits until it is there, and no longer.

    Args:
        tensor: a few numbers that do not change any more; on a GPU, of its current stream.
    """

    def __init__(self, tensor: torch.Tensor) -> None:
        self._done: torch.cuda.Event | None = None
        # From a GPU this goes to pinned memory: a pageable target would make the host wait here.
        self._values = tensor.to("cpu", non_blocking=True)
        if tensor.is_cuda:
            # Waiting for it must not keep a core busy that the loader could use.
            self._done = torch.cuda.Event(blocking=True)  # type: ignore[no-untyped-call]
            self._done.record(torch.cuda.current_stream(tensor.device))

    def read(self) -> list[float]:
        """The numbers; waits for the work that was given to the device before the copy, and for nothing after it."""
        if self._done is not None:
            self._done.synchronize()
        values: list[float] = self._values.tolist()
        return values


@dataclass
class RunPosition:
    """A place between two steps.

    Attributes:
        epoch: the epoch under way, or the next one.
        epoch_step: steps of it that are done.
        step: steps done in all.
        sums: by figure, its sum over those steps of the epoch whose figures are read, and how many of them had it.
        damage: damaged samples and failed reads of earlier sittings of the epoch, as `LoaderMeter.damage` gives them.
    """

    epoch: int = 0
    epoch_step: int = 0
    step: int = 0
    sums: dict[str, list[float]] = field(default_factory=dict)
    damage: dict[str, int] = field(default_factory=dict)

    def add(self, figures: Mapping[str, float]) -> None:
        """Sum up the figures of a step, those that are finite."""
        for name, value in figures.items():
            total = self.sums.setdefault(name, [0.0, 0.0])  # every rank holds the same names
            if math.isfinite(value):
                total[0] += value
                total[1] += 1

    def means(self, device: torch.device) -> dict[str, float]:
        """The mean of each figure over the epoch and all ranks, so that every rank's schedule takes the same decision.

        Args:
            device: of the process group's tensors. Every rank must call.
        """
        return {name: total / steps for name, (total, steps) in self.shared(device).items() if steps}

    def shared(self, device: torch.device) -> dict[str, list[float]]:
        """The means of the sums over all ranks: what each rank of any job may go on with. Every rank must call."""
        sums = gather_rows(torch.tensor([list(self.sums.values())], dtype=torch.float64, device=device)).mean(0)
        return dict(zip(self.sums, sums.tolist(), strict=True))


@dataclass(frozen=True)
class StepFigures:
    """What is known of a finished step.

    Attributes:
        step: its number in the run, from 1.
        figures: by name.
        batches: what it learned from.
        line: what else the log says of it, or None where the log leaves it out.
    """

    step: int
    figures: dict[str, float]
    batches: tuple[ClipBatch, ...]
    line: Mapping[str, Any] | None


@dataclass(frozen=True)
class _Sent:
    step: int
    names: tuple[str, ...]
    copy: HostCopy
    batches: tuple[ClipBatch, ...]
    line: Mapping[str, Any] | None


class DeferredFigures:
    """Steps whose figures have not been read yet, oldest first. Their batches are kept as long."""

    def __init__(self) -> None:
        self._sent: deque[_Sent] = deque()

    def send(
        self,
        step: int,
        figures: Mapping[str, torch.Tensor],
        batches: tuple[ClipBatch, ...],
        line: Mapping[str, Any] | None = None,
    ) -> None:
        """Start the figures of a step on their way, in one copy.

        Args:
            step: number of the step.
            figures: scalars on the device, by name.
            batches: it learned from.
            line: see StepFigures.
        """
        stacked = torch.stack(list(figures.values()))
        self._sent.append(_Sent(step, tuple(figures), HostCopy(stacked), batches, line))

    def read(self, *, leave: int = 0) -> Iterator[StepFigures]:
        """The figures of all steps but the last `leave`, in order; waits for these steps alone."""
        while len(self._sent) > leave:
            sent = self._sent.popleft()
            yield StepFigures(sent.step, dict(zip(sent.names, sent.copy.read(), strict=True)), sent.batches, sent.line)
