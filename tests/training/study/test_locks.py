"""One holder at a time, whatever ends it."""

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pclkd.training.study.locks import Locks

PATIENCE_S = 5.0
HOLD = """\
import sys, time
from pathlib import Path
from pclkd.training.study.locks import Locks
let_go = Locks(Path(sys.argv[1]), patience_s=float(sys.argv[2])).claim("run")
assert let_go is not None
print("held", flush=True)
time.sleep(600)
"""


@pytest.fixture
def holder(tmp_path: Path) -> "Iterator[subprocess.Popen[str]]":
    """A process that has the lock of "run"."""
    command = [sys.executable, "-c", HOLD, str(tmp_path), str(PATIENCE_S)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline() == "held\n"
    yield process
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


def test_a_killed_holder_is_followed_by_one_of_many(holder: "subprocess.Popen[str]", tmp_path: Path) -> None:
    assert Locks(tmp_path, patience_s=PATIENCE_S).claim("run") is None
    holder.kill()
    holder.wait()
    began = time.monotonic()
    everybody = threading.Barrier(8)
    won = []

    def follow() -> None:
        locks = Locks(tmp_path, patience_s=PATIENCE_S)
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
    assert time.monotonic() - began < 60
    assert len(won) == 1
    assert Locks(tmp_path, patience_s=PATIENCE_S).claim("run") is None


def test_a_holder_is_followed_when_it_gives_no_sign(holder: "subprocess.Popen[str]", tmp_path: Path) -> None:
    locks = Locks(tmp_path, patience_s=PATIENCE_S)
    end = time.monotonic() + 1.2 * PATIENCE_S
    while (silent := time.monotonic()) < end:  # it lives
        assert locks.claim("run") is None
        time.sleep(0.1)
    holder.send_signal(signal.SIGSTOP)
    while (let_go := locks.claim("run")) is None:
        assert time.monotonic() - silent < 60
        time.sleep(0.1)
    holder.send_signal(signal.SIGCONT)
    assert holder.stderr is not None and "warning: run: its lock was lost" in holder.stderr.readline()
    assert Locks(tmp_path, patience_s=PATIENCE_S).claim("run") is None  # what wakes takes nothing back
    let_go()
    assert list(tmp_path.iterdir()) == []
