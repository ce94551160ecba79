"""What no loader of JPEG frames can be faster than: decoding them, and reading them."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing

import numpy as np

from pclkd.benchmarks.loading.case import LoadCase
from pclkd.benchmarks.loading.clip_shape import synchronise
from pclkd.benchmarks.loading.graphs import WindowDecoder
from pclkd.benchmarks.measuring.rounds import Work
from pclkd.pipeline.loader.order_part import sequential_positions
from pclkd.pipeline.loader.prepare import BatchPreparer, PreparedBatch
from pclkd.pipeline.world import World

__all__ = ["decode_only", "in_memory", "range_reads"]


def in_memory(case: LoadCase) -> list[PreparedBatch]:
    """The batches of a pass, read and not decoded."""
    with closing(_preparer(case)) as preparer:
        positions = sequential_positions(len(case.samples), case.shape.batch_size, World())
        return [preparer.read(rows, 0) for rows in positions]


def decode_only(case: LoadCase, batches: Sequence[PreparedBatch]) -> Work:
    """Decodes the windows of frames that lie in memory as JPEGs; the pixels are dropped."""
    graph = case.graph("none")
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
    return BatchPreparer(case.index, case.samples, case.recipe, case.shape.side, 0, case.shape.batch_size, replace=True)
