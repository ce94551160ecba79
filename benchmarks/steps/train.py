"""What is lost between loader and step: training end to end, beside the same step and the same loader alone."""

import statistics
import time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pclkd.benchmarks.measuring.bounds import nearest_bounds
from pclkd.benchmarks.measuring.clip_shape import ClipShape, synchronise
from pclkd.benchmarks.measuring.result import BenchmarkResult, make_result
from pclkd.benchmarks.measuring.rounds import Work
from pclkd.benchmarks.measuring.session import Rates, Session
from pclkd.benchmarks.steps.case import StepNetworks
from pclkd.pipeline.opening import clip_loader
from pclkd.pipeline.world import World
from pclkd.sharding.common.errors import InputError
from pclkd.sharding.shards.index import ShardIndex
from pclkd.training.compute.distributed import choose_device

__all__ = ["TrainBenchmark"]

_NOTES = (
    "end_to_end: every pass starts with an idle loader, so the wait for its first batch counts",
    "step_alone: the same number of steps on one batch that stays on the device",
    "loader_alone: the same batches, taken and dropped",
)
_SHARED = (
    "shared_cores_bound: step and loader compute on the same {} core(s), so a sample takes at least what it takes the "
    "step alone and the loader alone together, samples/s, as far as either alone keeps all cores busy (cores_used)"
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

    data: str | Path
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
        precision = self.networks.precision(device)
        waits: list[float] = []
        opened = clip_loader(index, shape.config, World(), samples=samples, device=device, threads=self.workers)
        with opened as loader:
            with closing(loader.epoch(0)) as batches:  # type: ignore[type-var]
                kept = next(batches)
            networks = self.networks.settled(kept)
            step = networks.build(kept, len(samples), distil=networks.teacher is not None)

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
            used: dict[str, list[float]] = {name: [] for name in cases}

            def told(rates: Rates) -> BenchmarkResult:
                bounds = {"end_to_end": ["step_alone", "loader_alone"]}
                nearest = nearest_bounds(rates, bounds)["end_to_end"]
                side = {"step_alone": "step", "loader_alone": "loader"}[nearest.name]
                notes = [
                    f"the {side} is the slower side: end to end reaches {nearest.reached_pct:.0f} % of it",
                    *_NOTES,
                ]
                # The first pass was the warm-up.
                extra = {"end_to_end": {"time/data_wait_pct": statistics.median(waits[1:])}}
                if device.type == "cpu":
                    for name, cores in used.items():
                        extra.setdefault(name, {})["cores_used"] = statistics.median(cores[1:])
                    shared = [
                        1 / (1 / one + 1 / other)
                        for one, other in zip(*(rates[name] for name in bounds["end_to_end"]), strict=True)
                    ]
                    reached = statistics.median(
                        ours / limit for ours, limit in zip(rates["end_to_end"], shared, strict=True)
                    )
                    extra["end_to_end"] |= {
                        "shared_cores_bound": statistics.median(shared),
                        "of_shared_cores_pct": 100 * reached,
                    }
                    notes.append(_SHARED.format(World().cores))
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
                        "compile": networks.options.compile,
                        "device": device.type,
                        "data_fingerprint": index.fingerprint[:16],
                    },
                    bounds=bounds,
                    extra=extra,
                    notes=notes,
                )

            return session.measure({name: _watched(work, used[name]) for name, work in cases.items()}, told)


def _watched(work: Work, cores: list[float]) -> Work:
    """Note how many cores the work keeps busy."""

    def run() -> float:
        began, used = time.perf_counter(), time.process_time()
        done = work()
        cores.append((time.process_time() - used) / (time.perf_counter() - began))
        return done

    return run
