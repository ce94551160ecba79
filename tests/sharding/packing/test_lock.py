import json
import os
import signal
import socket
import subprocess
import sys
import textwrap
import time
import uuid
from pathlib import Path

import pytest

from pclkd.sharding import InputError
from pclkd.sharding.common import storage
from pclkd.sharding.packing import lock
from pclkd.sharding.packing.lock import locked

HOLD = """
    import subprocess, sys, time
    from pclkd.sharding.packing.lock import locked

    with locked(sys.argv[1]) as held:
        child = subprocess.Popen(["sleep", sys.argv[2]], pass_fds=held)
        print(child.pid, flush=True)
        time.sleep(60)
"""


def holder(out: Path, child_seconds: float) -> subprocess.Popen[str]:
    """A process that holds the lock, as does its child for some time."""
    arguments = [sys.executable, "-c", textwrap.dedent(HOLD), str(out), str(child_seconds)]
    process = subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert int(process.stdout.readline()) > 0
    return process


def test_a_second_run_is_refused_and_a_killed_one_leaves_no_lock(tmp_path: Path) -> None:
    process = holder(tmp_path / "out", 0.01)
    try:
        with pytest.raises(InputError, match="another run is packing into"), locked(str(tmp_path / "out")):
            pass
    finally:
        process.send_signal(signal.SIGKILL)
        process.communicate()
    with locked(str(tmp_path / "out")) as held:
        assert len(held) == 1


def test_the_lock_lasts_as_long_as_a_worker_of_a_killed_run(tmp_path: Path) -> None:
    process = holder(tmp_path / "out", 4)
    began = time.monotonic()
    process.send_signal(signal.SIGKILL)
    process.wait()
    with locked(str(tmp_path / "out")):
        assert time.monotonic() - began > 3
    process.communicate()


def test_a_lock_object_names_its_owner_and_is_gone_afterwards() -> None:
    out = f"memory://{uuid.uuid4().hex}"
    with locked(out) as held:
        assert held == ()
        about = json.loads(storage.read_bytes(f"{out}/.pack/lock.json"))
        assert (about["pid"], about["host"]) == (os.getpid(), socket.gethostname())
        with pytest.raises(InputError, match=f"process {os.getpid()} on .*its lock ends in"), locked(out):
            pass
    assert not storage.exists(f"{out}/.pack/lock.json")


@pytest.mark.parametrize(
    ("change", "free"),
    [
        ({}, False),
        ({"expires": 1.0}, True),
        ({"pid": 2**22 - 3}, True),
        ({"started": "another process of this number"}, True),
        ({"pid": 2**22 - 3, "host": "elsewhere"}, False),
        ({"expires": 1.0, "host": "elsewhere"}, True),
    ],
)
def test_a_lock_object_left_by_a_crash_is_taken_over(change: dict[str, object], free: bool) -> None:
    out = f"memory://{uuid.uuid4().hex}"
    with locked(out):
        about = json.loads(storage.read_bytes(f"{out}/.pack/lock.json"))
    storage.write_bytes(f"{out}/.pack/lock.json", json.dumps(about | change).encode())
    if free:
        with locked(out):
            pass
    else:
        with pytest.raises(InputError, match="another run is packing"), locked(out):
            pass


def test_a_lock_object_is_renewed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "_RENEWED_SECONDS", 0.05)
    out = f"memory://{uuid.uuid4().hex}"
    with locked(out):
        first = json.loads(storage.read_bytes(f"{out}/.pack/lock.json"))["expires"]
        deadline = time.monotonic() + 20
        while json.loads(storage.read_bytes(f"{out}/.pack/lock.json"))["expires"] == first:
            assert time.monotonic() < deadline
            time.sleep(0.02)
