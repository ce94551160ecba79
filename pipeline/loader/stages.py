"""The loader's stages, side by side.

A pool of threads reads the next batches from the shards and checks them; one thread feeds DALI and waits for its
frames; the consumer takes finished batches from a short queue:

    reader threads --(PreparedBatch)--> decode thread --(clips)--> queue --> consumer

DALI decodes in threads of its own (or on the GPU) and always has the next batch; the decode thread meanwhile finishes
the one before:

    DALI             decode 1 | decode 2          | decode 3          | ...
    decode thread    feed 2   | finish 1, feed 3  | finish 2, feed 4  | ...

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
from types import TracebackType
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray

from pclkd.pipeline.device import make_current
from pclkd.pipeline.loader.prepare import BatchPreparer, PreparedBatch
from pclkd.pipeline.loader.threads import DaemonPool
from pclkd.pipeline.pixels.dali import Decoding, FrameDecoder
from pclkd.pipeline.pixels.finish import ClipFinish
from pclkd.pipeline.pixels.frame_graph import UndecodableFramesError
from pclkd.pipeline.statistics import LoaderStatistics
from pclkd.sharding.common.errors import InputError

__all__ = ["Pass", "Positions", "Stages"]

_POLL_S = 0.1
_STOP_LIMIT_S = 1.5  # a batch is decoded in less; a thread that hangs is left behind, it cannot keep the program
_MOST_UNDECODABLE = 16
_UNDER_WAY = 2  # batches in DALI: it never waits for the next one, and more would only take memory
_ENDED = "this pass has ended: the loader was closed, or another loop over it has begun"

Delivered = tuple[PreparedBatch, tuple[torch.Tensor, ...]]
_Decoded = tuple[PreparedBatch, Decoding | None]
Positions = Sequence[NDArray[np.int64]]


@dataclass(frozen=True)
class Pass:
    """What one run of the stages does.

    Attributes:
        epoch: the epoch.
        positions: gives what to read, a batch an entry; called in the decode thread.
        prefetch: batches kept ready.
        wait_limit_s: seconds the consumer waits for one batch.
        residual: whether clips are differences of frames.
    """

    epoch: int
    positions: Callable[[], Positions]
    prefetch: int
    wait_limit_s: float
    residual: bool


class Stages:
    """One pass over a list of batches; `next` hands them out in order.

    Args:
        preparer: reads batches.
        decoder: turns a prepared batch into clips.
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
        self._ready: queue.Queue[Delivered | BaseException] = queue.Queue(todo.prefetch)
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="pclkd-decode", daemon=True)
        self._thread.start()

    def next(self) -> Delivered:
        """The next batch, and its clips [B, V, C, T, H, W] with their further views behind them.

        Nothing for a batch without an intact sample.

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
        under_way: deque[_Decoded] = deque()
        try:
            make_current(self._decoder.graph.device)
            with self._turn(), _ReadAhead(self._todo, self._read) as reading:
                while not self._stopped.is_set():
                    while len(under_way) < _UNDER_WAY and (reading.ready or not under_way):
                        if (prepared := self._prepared(reading)) is None:
                            break
                        under_way.append((prepared, self._begun(prepared)))
                    if not under_way:
                        return
                    self._hand_over(self._finished(*self._waited(*under_way.popleft())))
        except BaseException as error:  # whatever it is, the consumer must hear of it
            self._hand_over(error)

    @contextlib.contextmanager
    def _turn(self) -> Iterator[None]:
        """Have the decoder alone: the pass before may still be in it, on a busy machine."""
        self._doing = lambda: "the pass before to leave the decoder"
        while not (taken := self._decoder.turn.acquire(timeout=_POLL_S)) and not self._stopped.is_set():
            pass
        try:
            yield
        finally:
            if taken:
                self._decoder.turn.release()

    def _prepared(self, reading: "_ReadAhead") -> PreparedBatch | None:
        """The next batch to decode; None at the end, and once the pass is stopped."""
        self._doing = lambda: f"a batch to be read{self._preparer.busy()}"
        future = reading.next()
        while future is not None and not self._stopped.is_set():
            try:
                return future.result(_POLL_S)
            except TimeoutError:
                if future.done():  # it is the reading itself that ran out of time
                    raise
        return None

    def _read(self, positions: NDArray[np.int64]) -> Future[PreparedBatch]:
        return self._readers.submit(self._preparer.read, positions, self._todo.epoch, self._statistics)

    def _begun(self, prepared: PreparedBatch) -> Decoding | None:
        """The batch's decoding, under way; None for a batch without an intact sample."""
        self._doing = self._decoding
        with self._timed():
            return self._decoder.begin(prepared.jpegs, prepared.plan.augment) if prepared.valid else None

    def _waited(self, prepared: PreparedBatch, decoding: Decoding | None) -> _Decoded:
        """The batch once it is decoded; samples that no decoder takes are replaced or left out first."""
        undecodable: set[int] = set()
        while decoding is not None:
            try:
                with self._timed():
                    self._decoder.wait(decoding)
                break
            except UndecodableFramesError as error:
                if len(undecodable) >= _MOST_UNDECODABLE:
                    raise
                rows = np.unique(np.asarray(error.frames) // (len(prepared.jpegs) // len(prepared.positions)))
                undecodable |= set(self._preparer.samples_at(prepared.positions[rows]).tolist())
                # The whole batch anew: replacements may be undecodable, too, and are drawn as any process would.
                prepared = self._preparer.read(prepared.drawn, self._todo.epoch, self._statistics, undecodable)
                decoding = self._begun(prepared)
        return prepared, decoding

    def _finished(self, prepared: PreparedBatch, decoding: Decoding | None) -> Delivered:
        if decoding is None:
            return prepared, ()
        with self._timed():
            finish = ClipFinish(prepared.plan.pretext, self._todo.residual)
            return prepared, (self._decoder.finish(decoding, finish), *self._decoder.finish_moments(decoding, finish))

    @contextlib.contextmanager
    def _timed(self) -> Iterator[None]:
        began = time.perf_counter()
        try:
            yield
        finally:
            self._statistics.add(decode_s=time.perf_counter() - began)

    def _decoding(self) -> str:
        graph = self._decoder.graph
        return f"{graph.frames} frames to be decoded on {graph.decode}"

    def _hand_over(self, item: Delivered | BaseException) -> None:
        """Wait for room in the queue; give up once the pass is stopped."""
        while not self._stopped.is_set():
            with contextlib.suppress(queue.Full):
                self._ready.put(item, timeout=_POLL_S)
                return


class _ReadAhead:
    """Keeps `prefetch` batches being read ahead of the one that is asked for."""

    def __init__(self, todo: Pass, read: Callable[[NDArray[np.int64]], Future[PreparedBatch]]) -> None:
        self._ahead, self._read = todo.prefetch + 1, read
        self._waiting = iter(todo.positions())
        self._pending: deque[Future[PreparedBatch]] = deque()

    @property
    def ready(self) -> bool:
        """Whether the next batch is read."""
        return bool(self._pending) and self._pending[0].done()

    def next(self) -> Future[PreparedBatch] | None:
        """The next batch, which is being read; None at the end."""
        self._fill()
        batch = self._pending.popleft() if self._pending else None
        self._fill()
        return batch

    def __enter__(self) -> Self:
        """Itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Take back what is not being read yet."""
        for future in self._pending:
            future.cancel()

    def _fill(self) -> None:
        while len(self._pending) < self._ahead and (positions := next(self._waiting, None)) is not None:
            self._pending.append(self._read(positions))
