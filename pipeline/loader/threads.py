"""A pool of threads that never keeps a program from ending."""

import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

__all__ = ["DaemonPool"]

T = TypeVar("T")
_Task = tuple["Future[Any]", Callable[..., Any], tuple[Any, ...]]


class DaemonPool:
    """Runs calls in threads that Python does not wait for at exit.

    concurrent.futures joins its threads before the interpreter ends, so one read that hangs in a dead network file
    system would keep the whole program from ending.

    Args:
        threads: how many.
        name: of the threads.
    """

    def __init__(self, threads: int, name: str) -> None:
        self._tasks: queue.SimpleQueue[_Task | None] = queue.SimpleQueue()
        self._closed = False
        self._threads = [
            threading.Thread(target=_work, args=(self._tasks,), name=f"{name}-{number}", daemon=True)
            for number in range(threads)
        ]
        for thread in self._threads:
            thread.start()

    def submit(self, call: Callable[..., T], *arguments: Any) -> "Future[T]":
        """Queue a call; the future tells its result.

        Raises:
            RuntimeError: the pool is closed.
        """
        if self._closed:
            raise RuntimeError("the loader is closed")
        future: Future[T] = Future()
        self._tasks.put((future, call, arguments))
        return future

    def close(self, timeout_s: float) -> None:
        """Drop what is queued, end the threads, and wait for them, all together `timeout_s` at most."""
        if self._closed:
            return
        self._closed = True
        try:
            while True:
                task = self._tasks.get_nowait()
                if task is not None:
                    task[0].cancel()
        except queue.Empty:
            pass
        for _ in self._threads:
            self._tasks.put(None)
        for thread in self._threads:
            thread.join(timeout_s / len(self._threads))


def _work(tasks: "queue.SimpleQueue[_Task | None]") -> None:
    while (task := tasks.get()) is not None:
        future, call, arguments = task
        if not future.set_running_or_notify_cancel():
            continue
        try:
            future.set_result(call(*arguments))
        except BaseException as error:  # it belongs to whoever asks for the result
            future.set_exception(error)
        del task, future, call, arguments  # a thread that waits must not hold on to a batch
