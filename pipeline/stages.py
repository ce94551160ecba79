"""The loader's stages, side by side.

A pool of threads reads the next batches from the shards and checks them; one thread feeds DALI and waits for its
frames; the consumer takes finished batches from a short queue:

    reader threads --(PreparedBatch)--> decode thread --(frames)--> queue --> consumer

Every wait ends: the consumer's after a limit, with word of what it waited for; the others' when the pass is stopped.
"""

import contextlib
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from pclkd.pipeline.dali import FrameDecoder, UndecodableFramesError
from pclkd.pipeline.prepare import BatchPreparer, PreparedBatch
from pclkd.pipeline.statistics import LoaderStatistics
from pclkd.pipeline.threads import DaemonPool
from pclkd.sharding.errors import InputError

__all__ = ["Pass", "Positions", "Stages"]

_POLL_S = 0.1
_STOP_LIMIT_S = 1.5  # a batch is decoded in less; a thread that hangs is left behind, it cannot keep the program
_MOST_UNDECODABLE = 16
_ENDED = "this pass has ended: the loader was closed, or another loop over it has begun"

Decoded = tuple[PreparedBatch, torch.Tensor | None]
Positions = Sequence[NDArray[np.int64]]


@dataclass(frozen=True)
class Pass:
    """What one run of the stages does.

    Attributes:
        epoch: the epoch.
        positions: gives what to read, a batch an entry; called in the decode thread.
        prefetch: batches kept ready.
        wait_limit_s: seconds the consumer waits for one batch.
    """

    epoch: int
    positions: Callable[[], Positions]
    prefetch: int
    wait_limit_s: float


class Stages:
    """One pass over a list of batches; `next` hands them out in order.

    Args:
        preparer: reads batches.
        decoder: turns a prepared batch into frames.
        todo: what to read, and the limits.
        readers: threads that reading is done in.
        statistics: where the time is added up.
    """

    def __init__(
        self,
        preparer: BatchPreparer,
        decoder: FrameDecoder,
        todo: Pass,
        readers: DaemonPool,
        statistics: LoaderStatistics,
    ) -> None:
        self._preparer, self._decoder, self._todo = preparer, decoder, todo
        self._readers, self._statistics = readers, statistics
        self._doing: Callable[[], str] = lambda: "the order of the epoch"
        self._ready: queue.Queue[Decoded | BaseException] = queue.Queue(todo.prefetch)
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="pclkd-decode", daemon=True)
        self._thread.start()

    def next(self) -> Decoded:
        """The next batch and its frames; no frames for a batch without an intact sample.

        Raises:
            InputError: nothing came within the limit; it tells what was waited for.
            RuntimeError: the pass was stopped.
            BaseException: whatever a stage raised.
        """
        if self._stopped.is_set():
            raise RuntimeError(_ENDED)
        limit = self._todo.wait_limit_s
        try:
            item = self._ready.get(timeout=limit)
        except queue.Empty:
            raise InputError(
                f"no batch of epoch {self._todo.epoch} for {limit:g} s, waiting for {self._doing()}",
                remedy="check the disk, network or GPU that it waits for; where it is only slow, raise "
                "--set loader.wait_limit_s",
            ) from None
        if isinstance(item, BaseException):
            raise item
        return item

    def stop(self) -> bool:
        """End the decode thread and a consumer's wait, and drop what was read ahead; tells whether the thread ended."""
        self._stopped.set()
        with contextlib.suppress(queue.Empty):
            while True:
                self._ready.get_nowait()
        with contextlib.suppress(queue.Full):  # then it is not empty, and nobody waits
            self._ready.put_nowait(RuntimeError(_ENDED))
        self._thread.join(_STOP_LIMIT_S)
        return not self._thread.is_alive()

    def _run(self) -> None:
        try:
            for prepared in self._prepared():
                item = (prepared, None) if not prepared.valid else self._decoded(prepared)
                if not self._hand_over(item):
                    return
        except BaseException as error:  # whatever it is, the consumer must hear of it
            self._hand_over(error)

    def _prepared(self) -> Iterator[PreparedBatch]:
        """Keep `prefetch` batches being read ahead of the one that is decoded."""
        pending: deque[Future[PreparedBatch]] = deque()
        waiting = iter(self._todo.positions())
        try:
            while not self._stopped.is_set():
                while len(pending) <= self._todo.prefetch and (positions := next(waiting, None)) is not None:
                    pending.append(self._read(positions))
                if not pending:
                    return
                self._doing = lambda: f"a batch to be read{self._preparer.busy()}"
                read = self._result(pending.popleft())
                if read is None:
                    return
                yield read
        finally:
            for future in pending:
                future.cancel()

    def _read(self, positions: NDArray[np.int64]) -> Future[PreparedBatch]:
        return self._readers.submit(self._preparer.read, positions, self._todo.epoch, self._statistics)

    def _result(self, future: Future[PreparedBatch]) -> PreparedBatch | None:
        """The future's result; None once the pass is stopped."""
        while not self._stopped.is_set():
            try:
                return future.result(_POLL_S)
            except TimeoutError:
                if future.done():  # it is the reading itself that ran out of time
                    raise
        return None

    def _decoded(self, prepared: PreparedBatch) -> Decoded:
        """The frames of a batch; samples that no decoder takes are replaced or left out first."""
        undecodable: set[int] = set()
        while prepared.valid:
            self._doing = self._decoding
            began = time.perf_counter()
            try:
                return prepared, self._decoder.decode(prepared.jpegs, prepared.plan.augment)
            except UndecodableFramesError as error:
                if len(undecodable) >= _MOST_UNDECODABLE:
                    raise
                rows = np.unique(np.asarray(error.frames) // (len(prepared.jpegs) // len(prepared.positions)))
                undecodable |= set(self._preparer.samples_at(prepared.positions[rows]).tolist())
                # The whole batch anew: replacements may be undecodable, too, and are drawn as any process would.
                prepared = self._preparer.read(prepared.drawn, self._todo.epoch, self._statistics, undecodable)
            finally:
                self._statistics.add(decode_s=time.perf_counter() - began)
        return prepared, None

    def _decoding(self) -> str:
        graph = self._decoder.graph
        return f"{graph.frames} frames to be decoded on {graph.decode}"

    def _hand_over(self, item: Decoded | BaseException) -> bool:
        while not self._stopped.is_set():
            try:
                self._ready.put(item, timeout=_POLL_S)
            except queue.Full:
                continue
            return True
        return False
