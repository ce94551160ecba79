"""What is lost between loader and step: training end to end, beside the same step and the same loader alone."""

import statistics
import time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pclkd.benchmarks.clip_shape import ClipShape, synchronise
from pclkd.benchmarks.result import BenchmarkResult, make_result
from pclkd.benchmarks.session import Session
from pclkd.benchmarks.step_case import StepNetworks
from pclkd.pipeline.loader import ClipLoader, LoaderSettings
from pclkd.pipeline.recipe import TupleRecipe
from pclkd.pipeline.world import World
from pclkd.sharding.errors import InputError
from pclkd.sharding.index import ShardIndex
from pclkd.training.distributed import choose_device
from pclkd.training.precision import Precision, check_conv3d

__all__ = ["TrainBenchmark"]

_NOTES = (
    "end_to_end: every pass starts with an idle loader, so the wait for its first batch counts",
    "step_alone: the same number of steps on one batch that stays on the device",
    "loader_alone: the same batches, taken and dropped",
)


@dataclass(frozen=True)
class TrainBenchmark:
    """What is measured.

    Attributes:
        data: the shard set.
        split: whose train part is used.
        networks: of the step; PCL+KD where they have a teacher.
        shape: of a batch.
        steps: steps a pass, at most.
        workers: threads of the loader; 0 is one a core.
    """

    data: Path
    split: int
    networks: StepNetworks
    shape: ClipShape
    steps: int
    workers: int

    def run(self, session: Session) -> BenchmarkResult:
        """Measure.

        Raises:
            InputError: a shard set, split, crop or backbone that cannot be used, or too few samples for a step.
        """
        index = ShardIndex.open(self.data)
        shape = self.shape.fitted(index)
        samples = index.split_samples(self.split, "train")
        steps = min(self.steps, len(samples) // shape.batch_size)
        if not steps:
            raise InputError(
                f"{len(samples)} training videos of split {self.split} in {self.data} do not fill a batch of "
                f"{shape.batch_size}",
                remedy="lower --batch-size",
            )
        # Spread over the split, which is sorted by class.
        samples = samples[np.linspace(0, len(samples) - 1, steps * shape.batch_size).astype(np.int64)]
        device = choose_device(World())
        precision = Precision(self.networks.precision, device)
        check_conv3d(precision)
        settings = LoaderSettings(batch_size=shape.batch_size, crop=shape.side, threads=self.workers)
        recipe = TupleRecipe(seed=0, tuples=shape.tuples)
        step = self.networks.build(len(samples), device, distil=self.networks.teacher is not None)
        waits: list[float] = []
        with ClipLoader(index, samples, recipe, settings, device=device) as loader:
            with closing(loader.epoch(0)) as batches:  # type: ignore[type-var]
                kept = next(batches)

            def end_to_end() -> float:
                began, waited = time.perf_counter(), loader.statistics.wait_s
                for batch in loader.epoch(0):
                    step(batch)
                synchronise(device)
                waits.append(100 * (loader.statistics.wait_s - waited) / (time.perf_counter() - began))
                return float(steps * shape.batch_size)

            def step_alone() -> float:
                for _ in range(steps):
                    step(kept)
                synchronise(device)
                return float(steps * shape.batch_size)

            def loader_alone() -> float:
                for _ in loader.epoch(0):
                    pass
                synchronise(device)
                return float(steps * shape.batch_size)

            cases = {"end_to_end": end_to_end, "step_alone": step_alone, "loader_alone": loader_alone}
            rates = session.measure(cases)
        return make_result(
            "train",
            "samples/s",
            rates,
            "step_alone",
            {
                "backbone": self.networks.backbone,
                "teacher": self.networks.teacher,
                "width": self.networks.width,
                **shape.as_dict(),
                "steps_per_pass": steps,
                "stored_frames": "x".join(map(str, index.smallest_frame)),
                "loader_threads": self.workers or World().cores,
                "precision": precision.name,
                "device": device.type,
                "data_fingerprint": index.fingerprint[:16],
            },
            # The first pass was the warm-up.
            extra={"end_to_end": {"time/data_wait_pct": statistics.median(waits[1:])}},
            notes=_NOTES,
        )
