"""Figures of steps that are read a step late, so that the device always has the next step to work on."""

from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from pclkd.pipeline.batch import ClipBatch
from pclkd.training.loop.host_copy import HostCopy

__all__ = ["DeferredFigures", "StepFigures"]


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
