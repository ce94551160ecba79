import errno
import json
import os
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
import uuid
from pathlib import Path

import psutil
import pytest

from pclkd.sharding import InputError
from pclkd.sharding.common import storage
from pclkd.sharding.packing import lock
from pclkd.sharding.packing.lock import locked

# Whoever holds the lock on a file system that refuses flock; "elsewhere" is what another host tells of itself.
HOLD = """
    import fcntl, sys, time
    from pclkd.sharding.packing import lock

    def refuse(*_):
        raise OSError(int(sys.argv[2]), "refused by the file system")

    fcntl.flock = fcntl.lockf = fcntl.fcntl = refuse
    machine = lock.this_machine()
    lock.this_machine = lambda: machine + sys.argv[3]
    lock._RENEWED_SECONDS = 0.2
    with lock.locked(sys.argv[1], sys.argv[4]):
        print("held", flush=True)
        time.sleep(10_000)
"""


def holder(out: Path, refusal: int = 0, elsewhere: str = "", part: str = "") -> subprocess.Popen[str]:
    """A process that holds the lock."""
    arguments = [sys.executable, "-c", textwrap.dedent(HOLD), str(out), str(refusal), elsewhere, part]
    process = subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def refused(out: Path | str, part: str = "") -> str:
    with pytest.raises(InputError, match="another run is packing") as told, locked(str(out), part):
        pass
    return str(told.value)


@pytest.mark.parametrize("refusal", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP])
def test_a_second_run_is_refused_where_the_file_system_has_no_locks(tmp_path: Path, refusal: int) -> None:
    process = holder(tmp_path / "out", refusal)
    try:
        assert f"process {process.pid} on {socket.gethostname()}" in refused(tmp_path / "out")
        process.send_signal(signal.SIGSTOP)  # on its machine it lives as long as its process
        refused(tmp_path / "out")
    finally:
        process.kill()
        process.wait()
    with locked(str(tmp_path / "out")):  # at once
        assert len(list((tmp_path / "out" / ".pack").iterdir())) == 1
    assert not (tmp_path / "out" / ".pack").exists()
    process.communicate()


def test_a_run_on_another_host_is_seen_as_long_as_it_renews_its_lock(tmp_path: Path, monkeypatch, until) -> None:
    """Its clock is the file's time: what a minute of silence makes of it is made here."""
    monkeypatch.setattr(lock, "_PATIENCE_SECONDS", 0.0)
    process = holder(tmp_path / "out", elsewhere="elsewhere")
    (file,) = (tmp_path / "out" / ".pack").iterdir()

    def silent(seconds: float) -> float:
        os.utime(file, (time.time() - seconds,) * 2)
        return file.stat().st_mtime

    try:
        for _ in range(3):
            since = silent(1000)
            until(lambda since=since: file.stat().st_mtime > since + 900, process)  # it lives, and renews it
            assert "its lock ends in" in refused(tmp_path / "out")
        process.send_signal(signal.SIGSTOP)
        until(lambda: psutil.Process(process.pid).status() == psutil.STATUS_STOPPED)
        silent(lock._EXPIRES_SECONDS - 30)
        refused(tmp_path / "out")
        silent(lock._EXPIRES_SECONDS + 1)
        with locked(str(tmp_path / "out")):
            assert not file.exists()
    finally:
        process.kill()
        process.communicate()


def test_parts_are_held_beside_each_other_and_never_beside_the_whole(tmp_path: Path) -> None:
    process = holder(tmp_path, part="2/3")
    try:
        assert "packing part 2/3 into" in refused(tmp_path, "2/3")
        refused(tmp_path)
        with locked(str(tmp_path), "1/3"), locked(str(tmp_path), "3/3"):
            refused(tmp_path, "1/3")
    finally:
        process.kill()
        process.communicate()
    with locked(str(tmp_path)):
        refused(tmp_path, "1/3")


def test_of_many_at_the_same_moment_one_holds_it(tmp_path: Path) -> None:
    everybody, inside = threading.Barrier(6), []

    def take(number: int) -> None:
        everybody.wait()
        for _ in range(4):
            try:
                with locked(str(tmp_path)):
                    inside.append(number)
                    time.sleep(0.01)
                    met.append(len(inside))
                    inside.remove(number)
            except InputError:
                continue
            taken.append(number)

    taken: list[int] = []
    met: list[int] = []
    threads = [threading.Thread(target=take, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(met) <= {1}
    with locked(str(tmp_path)):  # whoever came or was refused, nothing of them is left
        assert len(list((tmp_path / ".pack").iterdir())) == 1


def test_a_lock_object_names_its_owner_and_is_gone_afterwards() -> None:
    out = f"memory://{uuid.uuid4().hex}"
    with locked(out) as check:
        (name,) = storage.sizes(f"{out}/.pack")
        about = json.loads(storage.read_bytes(f"{out}/.pack/{name}"))
        assert (about["pid"], about["host"]) == (os.getpid(), socket.gethostname())
        assert f"process {os.getpid()} on" in refused(out)
        check()
    assert storage.sizes(f"{out}/.pack") == {}


@pytest.mark.parametrize(
    ("change", "age", "free"),
    [
        ({}, 0, False),
        ({}, 100, False),
        ({"pid": 2**22 - 3}, 0, True),
        ({"started": "another process of this number"}, 0, True),
        ({"pid": 2**22 - 3, "machine": "elsewhere"}, 10, False),
        ({"machine": "elsewhere"}, 100, True),
    ],
)
def test_a_lock_left_by_a_crash_is_taken_over(tmp_path: Path, change: dict[str, str], age: float, free: bool) -> None:
    with locked(str(tmp_path)):
        (path,) = (tmp_path / ".pack").iterdir()
        about = json.loads(path.read_bytes())
    path.parent.mkdir()
    path.write_text(json.dumps(about | change))
    os.utime(path, (time.time() - age,) * 2)
    if free:
        with locked(str(tmp_path)):
            assert not path.exists()
    else:
        refused(tmp_path)
        assert path.exists()


@pytest.mark.parametrize("place", ["memory", "disk"])
def test_a_lock_is_renewed_and_its_loss_is_told(
    place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, until
) -> None:
    monkeypatch.setattr(lock, "_RENEWED_SECONDS", 0.05)
    out = str(tmp_path) if place == "disk" else f"memory://{uuid.uuid4().hex}"
    with locked(out) as check:
        (name,) = storage.sizes(f"{out}/.pack")
        first = storage.modified(f"{out}/.pack/{name}")
        until(lambda: storage.modified(f"{out}/.pack/{name}") != first)
        check()
        storage.remove(f"{out}/.pack/{name}")
        with pytest.raises(InputError, match=r"the lock of .* was lost"):
            check()


def test_a_lock_is_renewed_whatever_a_stores_client_raised_before(monkeypatch: pytest.MonkeyPatch, until) -> None:
    monkeypatch.setattr(lock, "_RENEWED_SECONDS", 0.05)
    out, exists = f"memory://{uuid.uuid4().hex}", storage.exists
    failures: list[str] = []

    def away(url: str) -> bool:
        if len(failures) < 2:
            failures.append(url)
            raise RuntimeError("503, told by a client that has errors of its own")
        return exists(url)

    with locked(out) as check:
        (name,) = storage.sizes(f"{out}/.pack")
        first = storage.modified(f"{out}/.pack/{name}")
        monkeypatch.setattr(storage, "exists", away)
        until(lambda: storage.modified(f"{out}/.pack/{name}") != first)
        assert len(failures) == 2
        check()
