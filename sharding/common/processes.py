"""Processes that do one task after another, and are gone when the process that started them is.

They are started afresh (`python -c`), not forked and not by multiprocessing: a fork inherits the locks of running
threads, and multiprocessing imports the main module again, which inside a cluster's worker is the cluster's own.
"""

import ctypes
import os
import pickle
import signal
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from multiprocessing import Pipe
from multiprocessing.connection import Connection, wait
from typing import Any, Protocol, TypeVar

from pclkd.sharding.common.errors import InputError

__all__ = ["Worker", "available_cpus", "die_with", "on_signals", "run_tasks", "serve"]


class _Named(Protocol):
    @property
    def name(self) -> str: ...


TaskT = TypeVar("TaskT", bound=_Named)
ResultT = TypeVar("ResultT")
Work = Callable[[TaskT, Callable[[str], None]], ResultT]

_PR_SET_PDEATHSIG = 1
# The first message is the parent's module search path: only then can the package be found wherever it was found here.
_START = """\
import sys
from multiprocessing.connection import Connection
connection = Connection(int(sys.argv[1]))
sys.path[:] = connection.recv()
from pclkd.sharding.common.processes import serve
serve(connection, int(sys.argv[2]))
"""


def available_cpus() -> int:
    """Return how many processors this process may use."""
    return len(os.sched_getaffinity(0))


@contextmanager
def on_signals(numbers: Iterable[int], note: Callable[[int], object]) -> Iterator[None]:
    """Call `note` with the number of each of these signals within the block, instead of what they do.

    Signals reach the main thread alone: in another thread nothing is listened to.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, lambda number, _: note(number)) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class Worker:
    """A process that runs `work(task, tell)` for every task that it is sent.

    It answers with pairs: ("told", x) for each `tell(x)`, then ("result", value) or ("error", exception).

    Args:
        work: a function that can be pickled, as its tasks and results.
    """

    def __init__(self, work: Callable[[Any, Callable[[Any], None]], Any]) -> None:
        self.connection, theirs = Pipe()
        with theirs:
            # -P: the current folder must not hide installed packages.
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-c", _START, str(theirs.fileno()), str(os.getpid())],
                stdin=subprocess.DEVNULL,
                pass_fds=(theirs.fileno(),),
            )
        self.send(sys.path)
        self.send(work)

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def send(self, task: Any) -> None:
        """Give it a task; when it is dead, `connection.recv` tells."""
        with suppress(BrokenPipeError, ConnectionResetError):
            self.connection.send(task)

    def stop(self) -> None:
        """Kill it, at once."""
        self._process.kill()
        self._process.wait()
        self.connection.close()

    def exit_code(self) -> int:
        """Wait for its end; return its exit code, negative for a signal."""
        return self._process.wait()


def serve(connection: Connection, parent: int) -> None:
    """Life of a worker: take a task, answer, until the other side hangs up."""
    # Ctrl-C reaches the whole group; the parent alone decides what it means.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    die_with(parent)
    work = connection.recv()
    lock = threading.Lock()

    def answer(kind: str, value: Any) -> None:
        with lock:
            connection.send((kind, value))

    while True:
        try:
            task = connection.recv()
        except EOFError:
            return
        try:
            result = work(task, lambda message: answer("told", message))
        except Exception as error:
            answer("error", _picklable(error))
        else:
            answer("result", result)


def die_with(parent: int) -> None:
    """Have the kernel end this process with its parent: an orphan would write beside the next run.

    Args:
        parent: number of the process that started this one; where that has ended already, so does this one.
    """
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def _picklable(error: Exception) -> Exception:
    error.add_note("in a worker process:\n" + traceback.format_exc())
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return RuntimeError(traceback.format_exc())
    return error


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
        self.busy: dict[Worker, int] = {}
        self.last_step: dict[Worker, str] = {}

    def run(self, workers: int) -> list[Any]:
        crew = [Worker(self.work) for _ in range(workers)]
        try:
            for worker in crew:
                self._assign(worker)
            while self.busy:
                ready = set(wait([worker.connection for worker in self.busy]))
                for worker in [worker for worker in self.busy if worker.connection in ready]:
                    self._listen(worker)
        finally:
            for worker in crew:
                worker.stop()
        return [self.results[number] for number in range(len(self.tasks))]

    def _assign(self, worker: Worker) -> None:
        self.busy.pop(worker, None)
        if self.waiting:
            self.busy[worker] = self.waiting.pop()
            worker.send(self.tasks[self.busy[worker]])

    def _listen(self, worker: Worker) -> None:
        try:
            kind, value = worker.connection.recv()
        except (EOFError, OSError):
            raise self._obituary(worker) from None
        if kind == "told":
            self.last_step[worker] = value
            self.step(value)
        elif kind == "error":
            raise value
        else:
            self.results[self.busy[worker]] = value
            self._assign(worker)

    def _obituary(self, worker: Worker) -> InputError:
        code = worker.exit_code()
        how = f"by signal {signal.Signals(-code).name}" if code < 0 else f"with exit code {code}"
        last = self.last_step.get(worker)
        after = f" (last through: {last})" if last else ""
        return InputError(
            f"a worker process died {how} while making {self.tasks[self.busy[worker]].name}{after}",
            remedy="if memory ran out, use fewer --workers",
        )
