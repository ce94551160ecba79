"""Starting the commands that are to be disturbed, disturbing them, and looking at what they leave behind."""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

PATIENCE_S = 180.0  # for anything at all, on a machine that is busy with other things
LAUNCHER_S = 30.0
SERVER = Path(__file__).with_name("forked.py")
# A root of mounts of its own: small disks can be made, and nobody else's shared memory is seen.
PRIVATE = (
    "--mount",
    "--propagation",
    "private",
    "sh",
    "-c",
    'mount -t tmpfs -o size=1m tmpfs /dev/shm && exec "$@"',
    "sh",
)


def private_mounts() -> list[str]:
    """The command that gives a process mounts of its own; empty where this machine does not allow it."""
    for way in (["unshare"], ["unshare", "--user", "--map-root-user"]):
        with suppress(OSError):
            if subprocess.run([*way, *PRIVATE, "true"], capture_output=True, check=False).returncode == 0:
                return [*way, *PRIVATE]
    return []


class Started:
    """A command that runs, or has ended.

    Attributes:
        pid: its number, and that of its session.
        log: what it says.
        over: set when it has ended.
    """

    def __init__(self, pid: int, log: Path) -> None:
        self.pid, self.log = pid, log
        self.over = threading.Event()
        self.code = 0
        try:
            self._handle: int | None = os.pidfd_open(pid)  # no later process of the same number is ever meant
        except ProcessLookupError:
            self._handle = None

    def ended(self, code: int) -> None:
        self.code = code
        self.over.set()

    def send(self, number: int) -> None:
        """A signal, if it still runs."""
        with suppress(ProcessLookupError):
            if self._handle is not None:
                signal.pidfd_send_signal(self._handle, number)

    def send_all(self, number: int) -> None:
        """A signal to it and to all that it has started."""
        for pid in session(self.pid):
            with suppress(ProcessLookupError):
                os.kill(pid, number)

    def kill_child(self, pick: float) -> bool:
        """Kill one of the processes that it has started, the one at this share of their list; whether there was one."""
        children = sorted(set(session(self.pid)) - {self.pid})
        if children:
            with suppress(ProcessLookupError):
                os.kill(children[int(pick * len(children))], signal.SIGKILL)
        return bool(children)

    def wait(self, limit_s: float = PATIENCE_S) -> int:
        """Its exit code, negative for a signal. Whatever it started must be gone with it."""
        told = self.over.wait(limit_s)
        if not told:
            self.send_all(signal.SIGKILL)
        assert told, f"it has not ended within {limit_s:g} s: {self.said()}"
        until = time.monotonic() + 20  # the kernel ends them one after another
        while (left := session(self.pid)) and time.monotonic() < until:
            time.sleep(0.01)
        assert not left, f"{left} outlive the process that started them: {self.said()}"
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None
        return self.code

    def said(self) -> str:
        return self.log.read_text(errors="replace")[-4000:] if self.log.exists() else ""

    def counted(self) -> dict[str, int]:
        """Changes of files, or reads of shards, where they were counted."""
        line = next(line for line in reversed(self.said().splitlines()) if line.startswith("counted "))
        return json.loads(line.removeprefix("counted "))


class Job:
    """One command, or the processes of one that torchrun would start, which has a rendezvous for them.

    Args:
        zygote: starts them.
        program: as `Zygote.start` takes it.
        arguments: of each.
        ranks: processes; one is started as it is.
        diaries: folder for the samples of each step, a file a process.
        on_change: of the first process, as `Zygote.start` takes it.
    """

    def __init__(
        self,
        zygote: "Zygote",
        program: str,
        arguments: Sequence[object],
        ranks: int = 1,
        *,
        diaries: Path,
        on_change: Mapping[str, Any] | None = None,
    ) -> None:
        self._store = None
        shared: dict[str, str] = {}
        if ranks > 1:
            from torch.distributed import TCPStore

            self._store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
            shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(self._store.port)}
            shared |= {"TORCHELASTIC_USE_AGENT_STORE": "True", "WORLD_SIZE": str(ranks), "LOCAL_WORLD_SIZE": str(ranks)}
        self.processes = [
            zygote.start(
                program,
                arguments,
                environment={**shared, **({"RANK": str(rank), "LOCAL_RANK": str(rank)} if ranks > 1 else {})},
                diary=diaries / f"{uuid.uuid4().hex}.{rank}",
                on_change=on_change if rank == 0 else None,
            )
            for rank in range(ranks)
        ]

    def end(self) -> list[int]:
        """Exit codes by rank. As torchrun does, ends the others half a minute after one of them failed."""
        began, failed = time.monotonic(), None
        while running := [process for process in self.processes if not process.over.is_set()]:
            if failed is None and any(process.code for process in self.processes if process.over.is_set()):
                failed = time.monotonic()
                for process in running:
                    process.send(signal.SIGTERM)
            if failed is not None and time.monotonic() - failed > LAUNCHER_S:
                for process in running:
                    process.send_all(signal.SIGKILL)
            if time.monotonic() - began > PATIENCE_S:
                break
            running[0].over.wait(0.05)
        return [process.wait(1.0) for process in self.processes]

    def said(self) -> str:
        return "\n".join(f"rank {rank}: {process.said()}" for rank, process in enumerate(self.processes))


def session(leader: int) -> list[int]:
    """Living processes of a session."""
    found = []
    for pid in psutil.pids():
        with suppress(ProcessLookupError, psutil.NoSuchProcess):
            if os.getsid(pid) == leader and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
                found.append(pid)
    return found


class Zygote:
    """A process from which commands are forked.

    Args:
        folder: of logs and temporary files.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.temporary = folder, folder / "tmp"
        self.temporary.mkdir(parents=True)
        self._mounts = private_mounts()
        environment = {
            **os.environ,
            **{"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive", "CUDA_VISIBLE_DEVICES": ""},
            "TMPDIR": str(self.temporary),
        }
        self._process = subprocess.Popen(
            [*self._mounts, sys.executable, str(SERVER)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=(folder / "server.log").open("wb"),
            text=True,
            env=environment,
        )
        self._begun: dict[str, Started] = {}
        self._news = threading.Condition()
        self._number = 0
        first = self._line()
        assert first["ready"] == 1, "imports have started threads"
        self._torchs_own = set(self.temporary.iterdir())  # folders that importing torch makes
        threading.Thread(target=self._listen, daemon=True).start()

    @property
    def private(self) -> bool:
        """Whether it has mounts of its own."""
        return bool(self._mounts)

    def start(
        self,
        program: str,
        arguments: Sequence[object],
        *,
        environment: Mapping[str, str] | None = None,
        limits: Mapping[str, int] | None = None,
        diary: Path | None = None,
        on_change: Mapping[str, Any] | None = None,
        on_read: Mapping[str, Any] | None = None,
    ) -> Started:
        """Begin a command.

        Args:
            program: "train-kd", "shard-ucf101", or "code" to run the one argument as Python.
            arguments: of it.
            environment: beside what is there.
            limits: resources by the names of `resource`, as NOFILE; DATA counts from what is in use.
            diary: file to which the samples of each step of training are added.
            on_change: {"below": path, "at": n, "do": action}: what happens before the n-th change of a file there; the
                actions are those of `forked.action`.
            on_read: {"at": n, "do": action}: the same at the n-th read from a shard.
        """
        self._number += 1
        name = str(self._number)
        order = {
            **{"name": name, "program": program, "arguments": [str(argument) for argument in arguments]},
            **{"environment": dict(environment or {}), "limits": dict(limits or {})},
            **{"log": str(self.folder / f"{name}.log"), "diary": None if diary is None else str(diary)},
            **{"on_change": on_change, "on_read": on_read},
        }
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        with self._news:
            assert self._news.wait_for(lambda: name in self._begun, PATIENCE_S)
            return self._begun[name]

    def mount(self, folder: Path, options: str) -> Path:
        """A disk of its own on a folder, or its options changed; the path under which it is seen from here."""
        command = ["nsenter", "--mount", "--target", str(self._process.pid), "mount", "-t", "tmpfs", "-o", options]
        subprocess.run([*command, "tmpfs", str(folder)], check=True)
        return Path(f"/proc/{self._process.pid}/root{folder}")

    def left_behind(self) -> list[str]:
        """Shared memory and temporary files that commands have not taken away."""
        left = sorted(path.name for path in set(self.temporary.iterdir()) - self._torchs_own)
        if self.private:
            left += sorted(path.name for path in Path(f"/proc/{self._process.pid}/root/dev/shm").iterdir())
        return left

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.kill()
        self._process.wait(20)
        shutil.rmtree(self.temporary)

    def _line(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, (self.folder / "server.log").read_text()
        return json.loads(line)

    def _listen(self) -> None:
        running: dict[int, Started] = {}
        assert self._process.stdout is not None
        for line in self._process.stdout:
            told = json.loads(line)
            with self._news:
                if "began" in told:
                    started = Started(told["pid"], self.folder / f"{told['began']}.log")
                    running[told["pid"]] = self._begun[told["began"]] = started
                else:
                    running.pop(told["ended"]).ended(told["code"])
                self._news.notify_all()
