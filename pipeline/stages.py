"""The loader's stages, side by side.

A pool of threads reads the next batches from the shards and checks them; one thread feeds DALI and waits for its
frames; the consumer takes finished batches from a short queue:

    reader threads --(PreparedBatch)--> decode thread --(frames)--> queue --> consumer
"""

import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import torch
from numpy.typing import NDArray

from pclkd.pipeline.dali import FrameDecoder
from pclkd.pipeline.prepare import PreparedBatch
from pclkd.pipeline.statistics import LoaderStatistics

__all__ = ["Stages"]

_WAIT_LIMIT_S = 300.0  # far above any honest batch; a wait beyond it is a fault that must be told

Decoded = tuple[PreparedBatch, torch.Tensor]


class Stages:
    """One pass over a list of batches; `next` hands them out in order.

    Args:
        read: reads the batch at the given positions; None where nothing of it is intact.
        decoder: turns a prepared batch into frames.
        positions: what to read, a batch an entry.
        readers: threads that `read` runs in.
        prefetch: batches kept ready.
        statistics: where the time is added up.
    """

    def __init__(
        self,
        read: Callable[[NDArray[np.int64]], PreparedBatch | None],
        decoder: FrameDecoder,
        positions: Sequence[NDArray[np.int64]],
        readers: ThreadPoolExecutor,
        prefetch: int,
        statistics: LoaderStatistics,
    ) -> None:
        self._read, self._decoder, self._positions = read, decoder, positions
        self._readers, self._prefetch, self._statistics = readers, prefetch, statistics
        self._ready: queue.Queue[Decoded | BaseException | None] = queue.Queue(prefetch)
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="pclkd-decode", daemon=True)
        self._thread.start()

    def next(self) -> Decoded | None:
        """The next batch and its frames; None for a batch without an intact sample.

        Raises:
            TimeoutError: nothing came for five minutes.
            BaseException: whatever a stage raised.
        """
        try:
            item = self._ready.get(timeout=_WAIT_LIMIT_S)
        except queue.Empty:
            raise TimeoutError(
                f"no batch for {_WAIT_LIMIT_S:.0f} s: the shards cannot be read or decoding hangs; {self._statistics}"
            ) from None
        if isinstance(item, BaseException):
            raise item
        return item

    def stop(self) -> None:
        """End the decode thread; what was read ahead is dropped."""
        self._stopped.set()
        self._thread.join(_WAIT_LIMIT_S)

    def _run(self) -> None:
        try:
            for prepared in self._prepared():
                item = None
                if prepared is not None:
                    began = time.perf_counter()
                    item = prepared, self._decoder.decode(prepared.jpegs, prepared.plan.augment)
                    self._statistics.add(decode_s=time.perf_counter() - began)
                if not self._hand_over(item):
                    return
        except BaseException as error:  # whatever it is, the consumer must hear of it
            self._hand_over(error)

    def _prepared(self) -> Iterator[PreparedBatch | None]:
        """Keep `prefetch` batches being read ahead of the one that is decoded."""
        pending: deque[Future[PreparedBatch | None]] = deque()
        waiting = iter(self._positions)
        try:
            while not self._stopped.is_set():
                while len(pending) <= self._prefetch and (positions := next(waiting, None)) is not None:
                    pending.append(self._readers.submit(self._read, positions))
                if not pending:
                    return
                yield pending.popleft().result()
        finally:
            for future in pending:
                future.cancel()

    def _hand_over(self, item: Decoded | BaseException | None) -> bool:
        while not self._stopped.is_set():
            try:
                self._ready.put(item, timeout=0.1)
            except queue.Full:
                continue
            return True
        return False
