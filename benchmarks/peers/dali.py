"""DALI's own webdataset reader on the shards: what one writes with DALI and without an index of frames.

`fn.readers.webdataset` hands over whole samples, and DALI's image decoder takes one JPEG at a time, so a stream of
frames cannot be decoded inside the reader's graph. Python cuts the wanted frames out of each stream (views, no copies)
and feeds a second graph, this package's, which decodes and augments them.
"""

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray

from pclkd.benchmarks.loading.graphs import StreamReader
from pclkd.benchmarks.peers.shards import frame_bounds
from pclkd.pipeline.clips.recipe import ClipPlan, Recipe
from pclkd.pipeline.pixels.dali import FrameDecoder, FrameGraph
from pclkd.pipeline.pixels.finish import residual
from pclkd.sharding.shards.index import ShardIndex

__all__ = ["DaliShards"]

_AHEAD = 2  # batches that are decoded before they are asked for, as this package's loader has it


class DaliShards:
    """([B] sample ids, clips [B, V, C, T, H, W]) in the order of the shards, from front to back.

    Args:
        index: the shard set.
        samples: [n] sample ids: the first n of the set, n a multiple of B.
        recipe: which clips.
        graph: of the second graph, for batches of B samples.
        take_residual: each frame minus its predecessor, or the frames themselves.
        scratch: an empty folder; DALI reads lists of samples in it that end after the n-th.
    """

    def __init__(
        self,
        index: ShardIndex,
        samples: NDArray[np.int64],
        recipe: Recipe,
        graph: FrameGraph,
        *,
        take_residual: bool,
        scratch: Path,
    ) -> None:
        self._index, self._samples, self._recipe, self._residual = index, samples, recipe, take_residual
        self._batch = graph.frames // (recipe.views * recipe.clip_frames)
        self._crop = graph.crop[0]
        self._decoder = FrameDecoder(graph)
        shards, counts = np.unique(index.sample_shard[samples], return_counts=True)
        paths = [index.shard_url(shard) for shard in shards.tolist()]
        lists = [
            _shorten(Path(path).with_suffix(".idx"), count, scratch)
            for path, count in zip(paths, counts.tolist(), strict=True)
        ]
        self._reader = StreamReader(paths, lists, self._batch, graph.threads)
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="dali-peer")

    def __iter__(self) -> Iterator[tuple[NDArray[np.int64], torch.Tensor]]:
        """One pass; the reader goes round, so the next pass begins at the first sample again."""
        pending: deque[Future[tuple[NDArray[np.int64], torch.Tensor]]] = deque()
        for ids in self._samples.reshape(-1, self._batch):
            pending.append(self._pool.submit(self._make, ids))
            if len(pending) > _AHEAD:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()

    def close(self) -> None:
        """End the thread and drop the graphs."""
        self._pool.shutdown(wait=True, cancel_futures=True)
        self._decoder.close()
        del self._reader

    def __enter__(self) -> Self:
        """The loader itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close it."""
        self.close()

    def _make(self, ids: NDArray[np.int64]) -> tuple[NDArray[np.int64], torch.Tensor]:
        streams = self._reader.next()
        index = self._index
        plan: ClipPlan = self._recipe.plan(
            0, ids, index.sample_frames[ids + 1] - index.sample_frames[ids], index.sample_sizes(ids), self._crop
        )
        jpegs = []
        for row, sample in enumerate(ids.tolist()):
            bounds = frame_bounds(index, sample)[plan.frames[row].reshape(-1)].tolist()
            jpegs += [streams[row][first:end] for first, end in bounds]
        clips = self._decoder.decode(jpegs, plan.augment)
        if plan.pretext is not None:
            clips = plan.pretext.apply(clips)
        return ids, residual(clips) if self._residual else clips


def _shorten(full: Path, count: int, scratch: Path) -> Path:
    """A copy of a wds2idx index that ends after its first `count` samples."""
    head, *lines = full.read_text().splitlines()
    version, _ = head.split()
    short = scratch / full.name
    short.write_text("\n".join([f"{version} {count}", *lines[:count]]) + "\n")
    return short
