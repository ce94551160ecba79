"""How fast clips come out of the shards, beside what bounds it: reading their bytes, and decoding their frames.

The passes are all alike, so after the warm-up the shards are in the page cache: this measures work, not disks.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pclkd.benchmarks.bounds import tell_bounds
from pclkd.benchmarks.clip_shape import ClipShape, synchronise
from pclkd.benchmarks.dali_graphs import WindowDecoder
from pclkd.benchmarks.load_case import LoadCase, RecipeName
from pclkd.benchmarks.result import BenchmarkResult, make_result
from pclkd.benchmarks.rounds import Work
from pclkd.benchmarks.session import Session
from pclkd.pipeline.dali import Colours, FrameDecoder
from pclkd.pipeline.order import sequential_positions
from pclkd.pipeline.prepare import BatchPreparer, PreparedBatch
from pclkd.pipeline.world import World

__all__ = ["LoadBenchmark"]

_NOTES = (
    "range_reads plans, reads and checks the bytes, and decodes nothing",
    "decode_only decodes the windows of frames that lie in memory as JPEGs, and does nothing with the pixels",
    "the shards are in the page cache: the warm-up read them",
)
_COLOUR_NOTES = (
    "augment_dali decodes and augments the same JPEGs from memory with DALI's operators alone",
    "augment_fused (CPU) does so with this package's fused operators, as pclkd does",
)


@dataclass(frozen=True)
class LoadBenchmark:
    """What is measured.

    Attributes:
        data: the shard set.
        recipe: plain: crop, flip, normalise; full: all that training does.
        shape: of a batch.
        samples: samples a pass at most.
        workers: threads; 0 is one a core.
    """

    data: Path
    recipe: RecipeName
    shape: ClipShape
    samples: int
    workers: int

    def run(self, session: Session) -> BenchmarkResult:
        """Measure.

        Raises:
            InputError: a shard set that cannot be read, too few samples for a batch, or a crop that does not fit.
        """
        case = LoadCase.choose(self.data, self.recipe, self.shape, self.samples, self.workers)
        with ExitStack() as stack:
            loader = stack.enter_context(case.loader())
            batches = _in_memory(case)
            cases: dict[str, Work] = {
                "pclkd": lambda: case.drain(batch.clips for batch in loader.epoch(0)),
                "decode_only": _decode_only(case, batches),
                "range_reads": _range_reads(stack, case),
            }
            if case.recipe.colours:
                cases["augment_dali"] = _decode_and_augment(stack, case, batches, "graph")
                if case.device.type == "cpu":
                    cases["augment_fused"] = _decode_and_augment(stack, case, batches, "fused")
            rates = session.measure(cases)
        bounds = {"pclkd": ["decode_only", "range_reads"]}
        bounds |= {name: ["decode_only"] for name in rates if name.startswith("augment")}
        return make_result(
            "load",
            "clips/s",
            rates,
            "pclkd",
            case.settings,
            bounds=bounds,
            notes=[*tell_bounds(rates, bounds), *_NOTES, *(_COLOUR_NOTES if case.recipe.colours else ())],
        )


def _preparer(case: LoadCase) -> BatchPreparer:
    return BatchPreparer(case.index, case.samples, case.recipe, case.shape.side, 0, case.shape.batch_size, replace=True)


def _in_memory(case: LoadCase) -> list[PreparedBatch]:
    with closing(_preparer(case)) as preparer:
        positions = sequential_positions(len(case.samples), case.shape.batch_size, World())
        return [batch for batch in (preparer.read(rows, 0) for rows in positions) if batch is not None]


def _decode_only(case: LoadCase, batches: Sequence[PreparedBatch]) -> Work:
    graph = case.graph("none")
    decoder = WindowDecoder(graph.frames, case.shape.side, graph.decode, graph.threads)

    def work() -> float:
        for batch in batches:
            corners = np.stack([batch.plan.augment.top, batch.plan.augment.left], axis=-1).reshape(-1, 2)
            decoder.decode(batch.jpegs, np.repeat(corners, case.shape.frames, axis=0))
        synchronise(case.device)
        return float(case.shape.views * len(case.samples))

    return work


def _decode_and_augment(stack: ExitStack, case: LoadCase, batches: Sequence[PreparedBatch], colours: Colours) -> Work:
    decoder = FrameDecoder(case.graph(colours))
    stack.callback(decoder.close)

    def work() -> float:
        for batch in batches:
            decoder.decode(batch.jpegs, batch.plan.augment)
        synchronise(case.device)
        return float(case.shape.views * len(case.samples))

    return work


def _range_reads(stack: ExitStack, case: LoadCase) -> Work:
    preparer = stack.enter_context(closing(_preparer(case)))
    pool = stack.enter_context(ThreadPoolExecutor(case.workers))
    positions = sequential_positions(len(case.samples), case.shape.batch_size, World())

    def work() -> float:
        prepared = pool.map(lambda batch: preparer.read(batch, 0), positions)
        return sum(batch.valid * case.recipe.views for batch in prepared if batch is not None)

    return work
