import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from pclkd.sharding.packing.scratch import scratch_folder

PROGRAM = """
import sys, tempfile
from pclkd.sharding.packing import lock
from pclkd.sharding.packing.scratch import scratch_folder
elsewhere = lock.this_machine() + sys.argv[2]
import pclkd.sharding.packing.scratch as scratch
scratch.this_machine = lambda: elsewhere
tempfile.tempdir = sys.argv[1]
with scratch_folder() as folder:
    print(folder, flush=True)
    sys.stdin.read()
"""


def other(temporary: Path, elsewhere: str = "") -> "tuple[subprocess.Popen[str], Path]":
    """A process that has a folder there, on this machine or as if on another one."""
    arguments = [sys.executable, "-c", PROGRAM, str(temporary), elsewhere]
    process = subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    return process, Path(process.stdout.readline().strip())


def test_folders_of_the_living_stay_and_those_of_the_killed_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    here, living = other(tmp_path)
    away, elsewhere = other(tmp_path, "another container")
    (elsewhere / "shard-000001.tar.part").write_bytes(b"at work")
    try:
        with scratch_folder() as own:
            assert {living, elsewhere, Path(own)} == set(tmp_path.iterdir())
        here.kill()
        here.wait()
        away.kill()  # nobody here can tell
        away.wait()
        with scratch_folder():
            assert elsewhere.exists()
            assert not living.exists()
        yesterday = (time.time() - 90_000,) * 2
        os.utime(elsewhere, yesterday)
        with scratch_folder():
            assert elsewhere.exists(), "what is in it is new"
        os.utime(elsewhere / "shard-000001.tar.part", yesterday)
        with scratch_folder():
            assert not elsewhere.exists()
    finally:
        here.communicate()
        away.communicate()
    assert list(tmp_path.iterdir()) == []
