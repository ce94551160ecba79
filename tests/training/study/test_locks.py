"""One holder at a time, whatever ends it."""

import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pclkd.training.study.locks import Locks

HOLD = """\
import sys, time
from pathlib import Path
from pclkd.training.study.locks import Locks
let_go = Locks(Path(sys.argv[1]), patience_s=float(sys.argv[2])).claim("run")
assert let_go is not None
print("held", flush=True)
time.sleep(10_000)
"""


@pytest.fixture
def hold(tmp_path: Path) -> "Iterator[Callable[[float], subprocess.Popen[str]]]":
    """Start a process that has the lock of "run", of this patience in seconds."""
    started: list[subprocess.Popen[str]] = []

    def begin(patience_s: float) -> "subprocess.Popen[str]":
        command = [sys.executable, "-c", HOLD, str(tmp_path), str(patience_s)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        started.append(process)
        assert process.stdout is not None and process.stdout.readline() == "held\n"
        return process

    yield begin
    for process in started:
        process.kill()
        process.communicate()


def test_a_lock_has_one_holder(tmp_path: Path) -> None:
    ours, theirs = Locks(tmp_path / "locks"), Locks(tmp_path / "locks")
    assert ours.holder("run") is None
    let_go = ours.claim("run")
    assert let_go is not None and theirs.claim("run") is None and ours.claim("run") is None
    told = theirs.holder("run")
    assert told is not None and "process" in told and told.endswith(" s ago")
    other = theirs.claim("run-2")
    assert other is not None
    let_go()
    again = theirs.claim("run")
    assert again is not None and ours.holder("run-2") is not None
    again()
    other()
    assert list((tmp_path / "locks").iterdir()) == []


def test_a_killed_holder_is_followed_by_one_of_many(
    hold: "Callable[[float], subprocess.Popen[str]]", tmp_path: Path
) -> None:
    patience_s = 100_000.0  # who waits for that hangs
    holder = hold(patience_s)
    assert Locks(tmp_path, patience_s=patience_s).claim("run") is None
    holder.kill()
    holder.wait()
    everybody = threading.Barrier(8)
    won = []

    def follow() -> None:
        locks = Locks(tmp_path, patience_s=patience_s)
        everybody.wait()
        # Who meets another one that is just about to follow may go away with nothing, and comes again.
        while not won:
            if (let_go := locks.claim("run")) is not None:
                won.append(let_go)

    threads = [threading.Thread(target=follow) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1
    assert Locks(tmp_path, patience_s=patience_s).claim("run") is None


def test_a_holder_is_followed_when_it_gives_no_sign(
    hold: "Callable[[float], subprocess.Popen[str]]", until: Callable[..., None], tmp_path: Path
) -> None:
    patience_s, (locks, taken) = 1.5, (Locks(tmp_path, patience_s=1.5), list[Callable[[], None]]())
    holder, file = hold(patience_s), tmp_path / "run.lock"
    for _ in range(6):  # it lives: a third of the patience lies between its signs
        seen = file.stat().st_mtime_ns
        until(lambda seen=seen: file.stat().st_mtime_ns != seen, holder)
        assert locks.claim("run") is None
    holder.send_signal(signal.SIGSTOP)

    def follow() -> bool:
        let_go = locks.claim("run")
        taken.extend([let_go] if let_go is not None else [])
        return bool(taken)

    until(follow)
    holder.send_signal(signal.SIGCONT)
    assert holder.stderr is not None and "warning: run: its lock was lost" in holder.stderr.readline()
    assert Locks(tmp_path, patience_s=patience_s).claim("run") is None  # what wakes takes nothing back
    taken[0]()
    assert list(tmp_path.iterdir()) == []
