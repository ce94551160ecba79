"""How fast clips come out of the shards, beside what bounds it: reading their bytes, and decoding their frames.

The passes are all alike, so after the warm-up the shards are in the page cache: this measures work, not disks.
"""

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pclkd.benchmarks.loading.case import LoadCase, Place, RecipeName
from pclkd.benchmarks.loading.graphs import WindowDecoder
from pclkd.benchmarks.measuring.bounds import tell_bounds
from pclkd.benchmarks.measuring.clip_shape import ClipShape, synchronise
from pclkd.benchmarks.measuring.result import BenchmarkResult, make_result
from pclkd.benchmarks.measuring.rounds import Work
from pclkd.benchmarks.measuring.session import Rates, Session
from pclkd.pipeline.loader.loader import ClipLoader
from pclkd.pipeline.loader.order import sequential_positions
from pclkd.pipeline.loader.prepare import BatchPreparer, PreparedBatch
from pclkd.pipeline.pixels.dali import Colours, FrameDecoder
from pclkd.pipeline.reading.remote import open_source
from pclkd.pipeline.statistics import LoaderStatistics
from pclkd.pipeline.world import World

__all__ = ["LoadBenchmark", "decode_only", "in_memory", "range_reads"]


def in_memory(case: LoadCase) -> list[PreparedBatch]:
    """The batches of a pass, read and not decoded."""
    with closing(_preparer(case)) as preparer:
        positions = sequential_positions(len(case.samples), case.shape.batch_size, World())
        return [preparer.read(rows, 0) for rows in positions]


def decode_only(case: LoadCase, batches: Sequence[PreparedBatch], decode: Place | None = None) -> Work:
    """Decodes the windows of frames that lie in memory as JPEGs; the pixels are dropped."""
    graph = case.graph("none", decode)
    decoder = WindowDecoder(graph.frames, case.shape.side, graph.decode, graph.threads)

    def work() -> float:
        for batch in batches:
            corners = np.stack([batch.plan.augment.top, batch.plan.augment.left], axis=-1).reshape(-1, 2)
            decoder.decode(batch.jpegs, np.repeat(corners, case.shape.frames, axis=0))
        synchronise(case.device)
        return float(case.shape.views * len(case.samples))

    return work


def range_reads(stack: ExitStack, case: LoadCase) -> Work:
    """Plans, reads and checks the bytes, a thread a worker, and decodes nothing."""
    preparer = stack.enter_context(closing(_preparer(case)))
    pool = stack.enter_context(ThreadPoolExecutor(case.workers))
    positions = sequential_positions(len(case.samples), case.shape.batch_size, World())

    def work() -> float:
        prepared = pool.map(lambda batch: preparer.read(batch, 0), positions)
        return float(sum(batch.valid * case.recipe.views for batch in prepared))

    return work


def _preparer(case: LoadCase) -> BatchPreparer:
    source = open_source(case.index, case.shape.config.loader, LoaderStatistics())
    batch_size, side = case.shape.batch_size, case.shape.side
    return BatchPreparer(case.index, case.samples, case.recipe, side, 0, batch_size, replace=True, source=source)


_NOTES = (
    "range_reads plans, reads and checks the bytes, and decodes nothing",
    "decode_only decodes the windows of frames that lie in memory as JPEGs, and does nothing with the pixels",
    "the shards are in the page cache, or the local one of a URL: the warm-up read them",
    "on a GPU, pclkd chooses where to decode by a short race; pclkd_decode_cpu and pclkd_decode_mixed are told",
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
        threads: further numbers of threads to measure, ascending.
    """

    data: str | Path
    recipe: RecipeName
    shape: ClipShape
    samples: int
    workers: int
    threads: Sequence[int] = ()

    def run(self, session: Session) -> BenchmarkResult:
        """Measure.

        Raises:
            InputError: a shard set that cannot be read, too few samples for a batch, or a crop that does not fit.
        """
        case = LoadCase.choose(self.data, self.recipe, self.shape, self.samples, self.workers)
        with ExitStack() as stack:
            batches = in_memory(case)
            loader = stack.enter_context(case.loader())
            cases: dict[str, Work] = {"pclkd": _deliver(case, loader)}
            # A loader is bounded by decoding where it decodes.
            several = len(case.places) > 1
            decoding = {place: f"decode_only_{place}" if several else "decode_only" for place in case.places}
            bounds: dict[str, Sequence[str]] = {}
            for place, bound in decoding.items():
                if several:
                    cases[f"pclkd_decode_{place}"] = _deliver(case, stack.enter_context(case.loader(place)))
                    bounds[f"pclkd_decode_{place}"] = [bound, "range_reads"]
                cases[bound] = decode_only(case, batches, place)
            cases["range_reads"] = range_reads(stack, case)
            if case.recipe.colours:
                cases["augment_dali"] = _decode_and_augment(stack, case, batches, "graph")
                if case.device.type == "cpu":
                    cases["augment_fused"] = _decode_and_augment(stack, case, batches, "fused")
            for n in self.threads:
                cases[f"pclkd_{n}_threads"] = _deliver(case, stack.enter_context(case.loader(threads=n)))

            def told(rates: Rates) -> BenchmarkResult:
                chosen = case.places[-1] if loader.calibration is None else loader.calibration.decode
                limits = {**bounds, "pclkd": [decoding[chosen], "range_reads"]}
                rates |= _multiples(rates, self.threads)
                limits |= {f"pclkd_{n}_threads": [f"{n}_x_{self.threads[0]}_threads"] for n in self.threads[1:]}
                limits |= {name: [decoding[case.places[-1]]] for name in rates if name.startswith("augment")}
                return make_result(
                    "load",
                    "clips/s",
                    rates,
                    "pclkd",
                    case.settings,
                    bounds=limits,
                    notes=[*tell_bounds(rates, limits), *_NOTES, *(_COLOUR_NOTES if case.recipe.colours else ())],
                )

            return session.measure(cases, told)


def _multiples(rates: Mapping[str, Sequence[float]], threads: Sequence[int]) -> dict[str, list[float]]:
    """What each number of threads would reach if it did as many times as much as the fewest."""
    fewest = rates[f"pclkd_{threads[0]}_threads"] if threads else []
    return {f"{n}_x_{threads[0]}_threads": [n / threads[0] * rate for rate in fewest] for n in threads[1:]}


def _deliver(case: LoadCase, loader: ClipLoader) -> Work:
    return lambda: case.drain(batch.clips for batch in loader.epoch(0))


def _decode_and_augment(stack: ExitStack, case: LoadCase, batches: Sequence[PreparedBatch], colours: Colours) -> Work:
    decoder = FrameDecoder(case.graph(colours))
    stack.callback(decoder.close)

    def work() -> float:
        for batch in batches:
            decoder.decode(batch.jpegs, batch.plan.augment)
        synchronise(case.device)
        return float(case.shape.views * len(case.samples))

    return work
