import errno
import os
import sys
import textwrap
from pathlib import Path
from types import ModuleType

import pytest

from pclkd.sharding import InputError
from pclkd.sharding.common.processes import run_tasks

WORK = """
    import os
    import signal
    from dataclasses import dataclass

    from pclkd.sharding.common.errors import InputError


    @dataclass
    class Task:
        number: int

        @property
        def name(self):
            return f"task-{self.number}"


    def square(task, step):
        step(task.name)
        return task.number**2, os.getpid()


    def die(task, step):
        step(task.name)
        if task.number == 3:
            os.kill(os.getpid(), signal.SIGKILL)


    def refuse(task, step):
        if task.number == 2:
            raise InputError("task 2 is wrong", remedy="leave it out")


    def fill_disk(task, step):
        raise OSError(28, "No space left on device", "/somewhere")


    class Odd(Exception):
        def __init__(self, one, two):
            super().__init__("odd")


    def raise_odd(task, step):
        raise Odd(1, 2)
"""


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """A module that worker processes can import too."""
    (tmp_path / "work_for_crew.py").write_text(textwrap.dedent(WORK))
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "work_for_crew", raising=False)
    import work_for_crew

    return work_for_crew


@pytest.mark.parametrize("workers", [1, 3])
def test_results_come_in_the_order_of_the_tasks(work: ModuleType, workers: int) -> None:
    seen: list[str] = []
    results = run_tasks(work.square, [work.Task(n) for n in range(7)], workers, seen.append)
    assert [value for value, _ in results] == [n**2 for n in range(7)]
    assert sorted(seen) == [f"task-{n}" for n in range(7)]
    assert (os.getpid() in {process for _, process in results}) == (workers == 1)


def test_no_tasks(work: ModuleType) -> None:
    assert run_tasks(work.square, [], 4, print) == []


def test_dead_worker_is_told_by_its_task(work: ModuleType) -> None:
    with pytest.raises(InputError, match=r"died by signal SIGKILL while making task-3 \(last through: task-3\)"):
        run_tasks(work.die, [work.Task(n) for n in range(6)], 2, lambda _: None)


def test_errors_arrive_as_they_were_raised(work: ModuleType) -> None:
    with pytest.raises(InputError, match="task 2 is wrong - leave it out") as wrong:
        run_tasks(work.refuse, [work.Task(n) for n in range(4)], 2, lambda _: None)
    assert wrong.value.remedy == "leave it out"
    with pytest.raises(OSError, match="No space") as full:
        run_tasks(work.fill_disk, [work.Task(n) for n in range(4)], 2, lambda _: None)
    assert (full.value.errno, full.value.filename) == (errno.ENOSPC, "/somewhere")


def test_error_that_cannot_travel_is_told_as_text(work: ModuleType) -> None:
    with pytest.raises(RuntimeError, match="Odd: odd"):
        run_tasks(work.raise_odd, [work.Task(n) for n in range(4)], 2, lambda _: None)
