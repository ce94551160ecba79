"""What a section works with: sizes, device, and where its findings go."""

import functools
import gc
import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from pclkd.benchmarks.gpu.rows import LeftOutError, Rows, Value
from pclkd.benchmarks.measuring.clip_shape import ClipShape
from pclkd.benchmarks.measuring.rounds import Work, interleave
from pclkd.benchmarks.steps.case import StepNetworks, StepOptions
from pclkd.pipeline.world import World
from pclkd.training.compute.distributed import choose_device
from pclkd.training.settings import RunSettings, override, preset

__all__ = ["FULL", "TINY", "Bench", "Sizes"]


@dataclass(frozen=True)
class Sizes:
    """How large everything is.

    Attributes:
        width: factor on the channels of all networks.
        shape: of the batch that most rows are about.
        batches: further batch sizes of the step, samples.
        compared: samples a batch, and steps, of the runs whose losses are compared.
        resumed: steps of the run that is stopped in its middle.
        threads: of the loader.
        turn_s: shortest time that a rate is measured over.
        videos: that are rendered: classes, groups, clips each.
        stored: height and width of rendered and of stored frames.
        training: samples that training has to choose from.
        epoch_steps: steps of a pass of training end to end.
        teacher_steps: that the teacher of the last run learns.
        longest_run: steps of that run.
    """

    width: float
    shape: ClipShape
    batches: tuple[int, ...]
    compared: tuple[int, int]
    resumed: int
    threads: tuple[int, ...]
    turn_s: float
    videos: tuple[int, int, int]
    stored: tuple[tuple[int, int], tuple[int, int]]
    training: int
    epoch_steps: int
    teacher_steps: int
    longest_run: int

    def settings(self, *changes: str) -> RunSettings:
        """Of a run at this size that measures nothing while it trains, with some changes."""
        tuples = [f"tuples.{name}={value}" for name, value in self.shape.tuples if isinstance(value, int)]
        size = [f"backbone.width={self.width}", f"loader.batch_size={self.shape.batch_size}"]
        size += [f"loader.crop={self.shape.side}", "evaluation.every=0", "log_every=1"]
        return override(preset("kd"), [*tuples, *size, *changes])


FULL = Sizes(
    width=1.0,
    shape=ClipShape(64, 16, 112),
    batches=(16, 32, 128, 256),
    compared=(8, 200),
    resumed=8,
    threads=(1, 4, 8, 16),
    turn_s=1.0,
    videos=(8, 4, 6),
    stored=((240, 320), (128, 171)),
    training=2400,
    epoch_steps=16,
    teacher_steps=40,
    longest_run=100_000,
)
"""What is published, at the batch of a large GPU."""
TINY = Sizes(
    width=0.05,
    shape=ClipShape(2, 8, 16),
    batches=(1,),
    compared=(2, 4),
    resumed=2,
    threads=(1, 2),
    turn_s=0.0,
    videos=(2, 3, 1),
    stored=((48, 64), (32, 43)),
    training=8,
    epoch_steps=2,
    teacher_steps=1,
    longest_run=2,
)
"""As small as all of it can be."""


@dataclass(frozen=True)
class Bench:
    """What a section is given.

    Attributes:
        rows: where its findings go.
        sizes: of everything.
        out: folder that is kept.
        scratch: folder that all sections share and that is removed in the end.
        given: a shard set, or None for the rendered one.
    """

    rows: Rows
    sizes: Sizes
    out: Path
    scratch: Path
    given: str | Path | None = None

    @property
    def dry(self) -> bool:
        """Whether figures mean nothing."""
        return self.sizes is TINY

    @functools.cached_property
    def device(self) -> torch.device:
        """As the trainer chooses it, which also turns cuDNN's trials on: once."""
        return choose_device(World())

    @property
    def data(self) -> str:
        """The shard set.

        Raises:
            LeftOutError: there is none.
        """
        found = self.rows.found("data/shards").get("folder")
        if not isinstance(found, str):
            raise LeftOutError("there are no shards: see data/shards")
        return found

    def networks(self, **options: object) -> StepNetworks:
        """R3D with a teacher of the same kind, eager unless the options say otherwise."""
        networks = StepNetworks("r3d", "r3d", self.sizes.width, StepOptions(compile="off"))
        return networks.varied(**options)

    def rate(self, work: Work, unit: str, factor: float = 1.0, rounds: int = 3) -> dict[str, Value]:
        """Units a second of a piece of work: the median of some turns after one that warms up, and the slowest one."""
        rates = interleave({"": work}, rounds=rounds, warmup=1, min_seconds=self.sizes.turn_s)[""]
        return {unit: factor * statistics.median(rates), f"least_{unit}": factor * min(rates)}

    def take(
        self, name: str, work: Callable[..., Mapping[str, Value]], *given: Any, needs_gpu: bool = False, **named: Any
    ) -> None:
        """A row: what `work(self, *given, **named)` finds; then the GPU's memory is free again, also where it failed.

        Args:
            name: of the row.
            work: see above.
            given: what the work is given beside this.
            needs_gpu: whether without one the work is expected to refuse.
            named: further arguments.
        """
        self.rows.take(name, functools.partial(work, self, *given, **named), needs_gpu=needs_gpu)
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
