"""Real busy processes beside this one, on a machine that may be busy anyway: their work is seen, ours not counted."""

import json
import os
import subprocess
import sys
import threading
import time
import zlib
from collections.abc import Callable, Iterator

import psutil
import pytest
import torch

from pclkd.sharding.common.processes import available_cpus
from pclkd.training.compute.neighbours import Neighbours, choose_waiting, describe_threads

PATIENCE_S = 300.0
# Never above us, whatever priority it would inherit: on one processor it would keep us from ending it.
SPIN = "import os; os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0)); exec('while True: pass')"
THREADS = max(2, available_cpus())


def until(true: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE_S
    while not true():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)


def work_of(process: psutil.Process) -> float:
    """Seconds of processor time."""
    return float(sum(process.cpu_times()[:2]))


@pytest.fixture
def spinning() -> Iterator[list[psutil.Process]]:
    """As many busy processes as there are processors."""
    children = [subprocess.Popen([sys.executable, "-c", SPIN]) for _ in range(available_cpus())]
    processes = [psutil.Process(child.pid) for child in children]
    until(lambda: min(map(work_of, processes)) > 0.2)
    yield processes
    for child in children:
        child.kill()
        child.wait()


@pytest.fixture
def one_core() -> Iterator[None]:
    """What this thread starts shares one processor with it."""
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(allowed)})
    yield
    os.sched_setaffinity(0, allowed)


def test_the_work_of_another_process_is_seen(one_core: None) -> None:
    with subprocess.Popen([sys.executable, "-c", SPIN]) as child:
        busy = psutil.Process(child.pid)
        began, neighbours, before = time.monotonic(), Neighbours(), work_of(busy)
        until(lambda: work_of(busy) - before > 1)
        seen = neighbours.busy_cores() * (time.monotonic() - began)
        child.kill()
    assert seen > 0.7  # seconds; the processors' ticks are coarse


@pytest.mark.parametrize("what", ["threads", "finished child"])
def test_our_own_work_is_not_that_of_others(what: str, one_core: None) -> None:
    """While we keep the only processor busy, others can have no more of it than we leave."""

    def compress() -> None:  # outside the interpreter's lock
        while time.process_time() - before < 1:
            zlib.compress(bytes(100_000))

    began, neighbours, before = time.monotonic(), Neighbours(), time.process_time()
    if what == "threads":
        threads = [threading.Thread(target=compress) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    else:
        subprocess.run([sys.executable, "-c", "import time\nwhile time.process_time() < 1: pass"], check=True)
    busy = neighbours.busy_cores()
    clock = time.monotonic() - began  # around all that it looked at: however long we were kept out in between
    assert busy * clock < clock - 1 + 0.4


def test_a_warning_comes_once_and_only_where_threads_spin(
    spinning: list[psutil.Process], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    neighbours = Neighbours()

    def ask(threads: int) -> str | None:
        before = sum(map(work_of, spinning))
        until(lambda: sum(map(work_of, spinning)) - before > 0.25 * len(spinning))
        return neighbours.warning(threads)

    assert ask(1) is None
    monkeypatch.setenv("OMP_WAIT_POLICY", "PASSIVE")
    assert ask(THREADS) is None
    monkeypatch.delenv("OMP_WAIT_POLICY")
    told = ask(THREADS)
    assert told is not None and f"of {available_cpus()} processors" in told and f"{THREADS} threads" in told
    assert ask(THREADS) is None


def chosen(**environment: str) -> tuple[float, str | None]:
    """The load that a fresh process sees, and the policy that a child of it finds."""
    code = (
        "import json, subprocess, sys\n"
        "from pclkd.training.compute.neighbours import choose_waiting, load_at_start\n"
        "choose_waiting(); assert 'torch' not in sys.modules\n"
        "child = 'import json, os; print(json.dumps(os.environ.get(\"OMP_WAIT_POLICY\")))'\n"
        "policy = json.loads(subprocess.check_output([sys.executable, '-c', child]))\n"
        "print(json.dumps([load_at_start(), policy]))"
    )
    kept = {name: value for name, value in os.environ.items() if not name.startswith("OMP_")}
    load, policy = json.loads(subprocess.check_output([sys.executable, "-c", code], env={**kept, **environment}))
    return load, policy


@pytest.mark.skipif(available_cpus() == 1, reason="one thread waits for nobody")
def test_the_waiting_is_chosen_by_the_load_at_the_start(spinning: list[psutil.Process]) -> None:
    load, policy = chosen()
    assert load > 0.5 and policy == "passive"  # where nothing else runs, it is about the number of processors
    assert chosen(OMP_NUM_THREADS="1")[1] is None
    assert chosen(OMP_NUM_THREADS="2,1")[1] == "passive"
    assert chosen(OMP_WAIT_POLICY="active")[1] == "active"


@pytest.mark.skipif(available_cpus() == 1, reason="one thread waits for nobody")
def test_on_an_idle_machine_nothing_is_set() -> None:
    load, policy = chosen()  # which machine this is, the load tells
    assert policy == ("passive" if load > 0.5 else None)


def test_it_is_too_late_once_torch_is_loaded(spinning: list[psutil.Process], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    choose_waiting()
    told = describe_threads()
    assert "OMP_WAIT_POLICY" not in os.environ and told["omp_wait_policy"] == "default"
    assert told["omp_threads"] == torch.get_num_threads()
