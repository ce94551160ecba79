"""Packing is killed at random moments, over and over, and always ends in the same bytes."""

import os
import random
import signal
import subprocess
import sys
import textwrap
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

KILLS = int(os.environ.get("PCLKD_KILLS", "24"))
LANES = 2
MODES = {"group", "parent", "worker"}
PATIENCE_S = 900
SEED = int(os.environ.get("PCLKD_KILL_SEED", "0")) or random.SystemRandom().randrange(1, 10**6)

# The command line, forked from a process that has its modules loaded already: 150 runs need not import them 150 times.
NURSERY = """
    import os, sys
    import pclkd.sharding.packing.pack
    from pclkd.sharding.cli import main

    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            os.setsid()
            code = 99
            try:
                code = main(line.rstrip("\\n").split("\\t"), standalone_mode=False) or 0
            except BaseException as error:
                print("FAILED", repr(error), file=sys.stderr)
            os._exit(code)
        print(child, flush=True)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


class Nursery:
    """Starts packing processes, each the leader of its own group."""

    def __init__(self, arguments: list[str]) -> None:
        self.arguments = arguments
        self.process = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(NURSERY)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.told: list[str] = []
        threading.Thread(target=lambda: self.told.extend(self.process.stderr), daemon=True).start()

    def start(self) -> psutil.Process:
        assert self.process.stdin is not None
        self.process.stdin.write("\t".join(self.arguments) + "\n")
        self.process.stdin.flush()
        return psutil.Process(int(self.line()))

    def line(self) -> str:
        """Read a line; the command's own output goes the same way and is passed over."""
        assert self.process.stdout is not None
        while True:
            line = self.process.stdout.readline()
            assert line, self.told
            if line.strip().lstrip("-").isdecimal():
                return line

    def failures(self) -> list[str]:
        """What the commands said when they failed; a killed parent's workers complain too, and do not count."""
        time.sleep(0.5)  # the end of it may still be on its way
        return [line for line in self.told if line.startswith("FAILED")]

    def close(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait(PATIENCE_S)


def contents(root: Path) -> dict[str, bytes]:
    """Every file below a folder; those that vanish meanwhile are passed over."""
    found = {}
    for path in root.rglob("*"):
        with suppress(FileNotFoundError, IsADirectoryError):
            found[str(path.relative_to(root))] = path.read_bytes()
    return found


def check_unfinished(out: Path, expected: dict[str, bytes]) -> None:
    """Whatever bears a final name must be what it will be in the end, byte for byte."""
    for name, data in contents(out).items():
        if not name.startswith(".pack/") and not name.endswith(".part"):
            assert data == expected[name], f"{name} is not whole (seed {SEED})"


def children_of(process: psutil.Process) -> list[psutil.Process]:
    with suppress(psutil.NoSuchProcess):
        return process.children(recursive=True)
    return []


def kill(process: psutil.Process, mode: str, rng: random.Random) -> bool:
    """Kill what `mode` says; tell whether there was something to kill."""
    children = children_of(process)
    with suppress(psutil.NoSuchProcess, ProcessLookupError):
        if process.status() == psutil.STATUS_ZOMBIE:
            return False
        if mode == "group":
            os.killpg(process.pid, signal.SIGKILL)
        elif mode == "parent":
            process.kill()
        elif children:
            rng.choice(children).kill()
        else:
            return False
        if mode != "worker":
            _, alive = psutil.wait_procs(children, timeout=PATIENCE_S)
            assert not alive, f"workers outlive the killed run (seed {SEED})"
        return True
    return False


def lane(number: int, arguments: list[str], out: Path, expected: dict[str, bytes], longest: float) -> list[str]:
    """Kill runs until there have been enough; return how each was killed."""
    rng = random.Random(f"{SEED}-{number}")
    nursery = Nursery(arguments)
    killed: list[str] = []
    try:
        while len(killed) < KILLS // LANES or set(killed) != MODES:
            for _ in range(rng.randint(1, 4)):
                process = nursery.start()
                time.sleep(rng.uniform(0, longest))
                mode = rng.choice(["group", *sorted(MODES)])
                if kill(process, mode, rng):
                    killed.append(mode)
                code = int(nursery.line())
                assert code in (0, -signal.SIGKILL), (code, mode, nursery.failures(), SEED)
                check_unfinished(out, expected)
            nursery.start()
            assert int(nursery.line()) == 0, (nursery.failures(), SEED)
            assert contents(out) == expected, f"seed {SEED}"
            if rng.random() < 0.5:  # else the next runs find a finished set
                for path in sorted(out.rglob("*"), reverse=True):
                    path.rmdir() if path.is_dir() else path.unlink()
    finally:
        nursery.close()
    return killed


@pytest.mark.real_videos
def test_runs_killed_at_any_moment_end_in_the_same_bytes(ucf101_sample, tmp_path: Path) -> None:
    lists, names = tmp_path / "lists", []
    for path in sorted(ucf101_sample.videos.glob("*/*.avi"), key=lambda path: path.stat().st_size)[:16]:
        folder = tmp_path / "UCF-101" / path.parent.name
        folder.mkdir(parents=True, exist_ok=True)
        (folder / path.name).symlink_to(path)
        names.append(f"{folder.name}/{path.name}")
    lists.mkdir()
    (lists / "classInd.txt").write_bytes((ucf101_sample.splits / "classInd.txt").read_bytes())
    (lists / "testlist01.txt").write_text("\n".join(names[::2]))
    (lists / "trainlist01.txt").write_text("")
    options = [
        "--splits",
        str(lists),
        "--allow-empty-split",
        "--size=32x43",
        "--max-frames=25",
        "--workers=2",
        "--json",
    ]
    nursery = Nursery(["pack", str(tmp_path / "UCF-101"), str(tmp_path / "whole"), *options])
    began = time.monotonic()
    nursery.start()
    assert int(nursery.line()) == 0, nursery.failures()
    longest = min(time.monotonic() - began, 4.0)  # a busy moment must not stretch all the runs
    nursery.close()
    expected = contents(tmp_path / "whole")
    assert sum(name.endswith(".tar") for name in expected) == 4
    outs = [tmp_path / f"out{number}" for number in range(LANES)]
    print(f"seed {SEED}")
    with ThreadPoolExecutor(LANES) as pool:
        lanes = [
            pool.submit(lane, number, ["pack", str(tmp_path / "UCF-101"), str(out), *options], out, expected, longest)
            for number, out in enumerate(outs)
        ]
        killed = [mode for done in lanes for mode in done.result()]
    assert len(killed) >= KILLS
