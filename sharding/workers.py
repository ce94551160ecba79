"""Tasks spread over processes: results in the order of the tasks, and a dead process is told by its task.

concurrent.futures cannot say which task a process died on, and leaves orphans when its own process is killed.
"""

import os
import pickle
import signal
import threading
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from multiprocessing import get_context, parent_process
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any, Protocol, TypeVar

from pclkd.sharding.errors import InputError

__all__ = ["available_cpus", "run_tasks"]


class _Named(Protocol):
    @property
    def name(self) -> str: ...


TaskT = TypeVar("TaskT", bound=_Named)
ResultT = TypeVar("ResultT")
Work = Callable[[TaskT, Callable[[str], None]], ResultT]


def available_cpus() -> int:
    """Return how many processors this process may use."""
    return len(os.sched_getaffinity(0))


def run_tasks(
    work: "Work[TaskT, ResultT]", tasks: Sequence[TaskT], workers: int, step: Callable[[str], None]
) -> list[ResultT]:
    """Run `work(task, step)` for every task and return the results in the order of the tasks.

    With one worker everything runs in this process. Otherwise `work`, tasks and results must be picklable, and `step`
    is called here with what the workers report.

    Raises:
        InputError: a worker process died; the message names the task and the last thing it reported.
    """
    if min(workers, len(tasks)) <= 1:
        return [work(task, step) for task in tasks]
    return _Crew(work, tasks, step).run(min(workers, len(tasks)))


class _Crew:
    """The processes, the task each is busy with, and what came back."""

    def __init__(self, work: "Work[Any, Any]", tasks: Sequence[Any], step: Callable[[str], None]) -> None:
        self.work = work
        self.tasks = tasks
        self.step = step
        self.waiting = list(range(len(tasks)))[::-1]
        self.results: dict[int, Any] = {}
        self.busy: dict[Connection, int] = {}
        self.last_step: dict[Connection, str] = {}
        self.processes: dict[Connection, BaseProcess] = {}

    def run(self, workers: int) -> list[Any]:
        try:
            for _ in range(workers):
                self._hire()
            while self.busy:
                for connection in wait(list(self.busy)):
                    assert isinstance(connection, Connection)
                    self._listen(connection)
        finally:
            for process in self.processes.values():
                process.kill()
            for connection, process in self.processes.items():
                process.join()
                connection.close()
        return [self.results[number] for number in range(len(self.tasks))]

    def _hire(self) -> None:
        # Not fork: this process may run threads (a progress bar), whose locks a forked child would inherit.
        context = get_context("spawn")
        ours, theirs = context.Pipe()
        process = context.Process(target=_serve, args=(theirs, self.work), daemon=True)
        process.start()
        theirs.close()
        self.processes[ours] = process
        self._assign(ours)

    def _assign(self, connection: Connection) -> None:
        if self.waiting:
            self.busy[connection] = self.waiting.pop()
            with suppress(BrokenPipeError, ConnectionResetError):  # it died; `_listen` will tell
                connection.send(self.tasks[self.busy[connection]])
        else:
            del self.busy[connection]

    def _listen(self, connection: Connection) -> None:
        try:
            kind, value = connection.recv()
        except (EOFError, OSError):
            raise self._obituary(connection) from None
        if kind == "step":
            self.last_step[connection] = value
            self.step(value)
        elif kind == "error":
            raise value
        else:
            self.results[self.busy[connection]] = value
            self._assign(connection)

    def _obituary(self, connection: Connection) -> InputError:
        process = self.processes[connection]
        process.join()
        code = process.exitcode or 0
        how = f"by signal {signal.Signals(-code).name}" if code < 0 else f"with exit code {code}"
        last = self.last_step.get(connection)
        after = f" (last through: {last})" if last else ""
        return InputError(
            f"a worker process died {how} while making {self.tasks[self.busy[connection]].name}{after}",
            remedy="if memory ran out, use fewer --workers; if the next video crashes the decoder, take it out",
        )


def _serve(connection: Connection, work: "Work[Any, Any]") -> None:
    """Life of a worker: take a task, answer, until the other side hangs up."""
    # Ctrl-C reaches the whole group; the parent alone decides what it means.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_die_with_parent, daemon=True).start()
    while True:
        try:
            task = connection.recv()
        except EOFError:
            return
        try:
            answer = ("result", work(task, lambda text: connection.send(("step", text))))
        except Exception as error:
            answer = ("error", _picklable(error))
        connection.send(answer)


def _die_with_parent() -> None:
    """End this process when the parent is gone: an orphan would write beside the next run."""
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _picklable(error: Exception) -> Exception:
    error.add_note("in a worker process:\n" + traceback.format_exc())
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return RuntimeError(traceback.format_exc())
    return error
