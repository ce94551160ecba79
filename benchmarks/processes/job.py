"""A training job of N processes, started as a user starts one, that waits between the passes it is asked for.

Jobs of several sizes stay alive side by side and sleep in turn, so that their passes can be interleaved: starting a job
takes longer than measuring it.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TextIO

from pclkd.benchmarks.processes.probe import JobPlan
from pclkd.sharding.common.errors import InputError

__all__ = ["JobFailedError", "TrainingJob"]

_START_LIMIT_S = 300.0
_PASS_LIMIT_S = 600.0
_END_LIMIT_S = 10.0
_LAST_WORDS = 300  # characters
_LONGEST_ADDRESS = 107  # bytes of a Unix socket's path

Told = dict[str, Any]


class JobFailedError(Exception):
    """A process of the job ended or fell silent; the message tells what it said last."""


class TrainingJob:
    """Processes on this machine, each with its share of the threads.

    Args:
        plan: what each of them does.
        processes: how many.
        threads: of each process' torch operators, on the CPU.
        scratch: an empty folder.

    Raises:
        InputError: its path is too long for a socket.
    """

    def __init__(self, plan: JobPlan, processes: int, threads: int, scratch: Path) -> None:
        self._plan, self._processes = plan, processes
        self._lines: list[TextIO] = []
        self._sockets: list[socket.socket] = []
        self._output = scratch / "output"
        address = str(scratch / "socket")
        if len(os.fsencode(address)) > _LONGEST_ADDRESS:
            raise InputError(f"{scratch} is too long a path for a socket", remedy="set TMPDIR to a shorter one")
        self._server = socket.socket(socket.AF_UNIX)
        self._server.bind(address)
        self._server.listen(processes)
        self._server.settimeout(0.2)
        command = [
            *(sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"),
            *("-m", "pclkd.benchmarks.processes.probe", address, plan.to_json()),
        ]
        with self._output.open("wb") as output:
            self._launcher = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, "OMP_NUM_THREADS": str(threads)},
            )

    def ready(self) -> list[Told]:
        """Wait until every process has made its first steps; what each says of itself, by rank.

        Raises:
            JobFailedError: one does not come.
        """
        deadline = time.monotonic() + _START_LIMIT_S
        while len(self._sockets) < self._processes:
            try:
                connection, _ = self._server.accept()
            except TimeoutError:
                if self._launcher.poll() is not None:
                    raise JobFailedError(self._last_words()) from None
                if time.monotonic() > deadline:
                    raise JobFailedError(f"did not start within {_START_LIMIT_S:.0f} s") from None
                continue
            connection.settimeout(_START_LIMIT_S)
            self._sockets.append(connection)
            self._lines.append(connection.makefile("rw", encoding="utf-8"))
        said = [self._hear(line) for line in self._lines]
        for connection in self._sockets:
            connection.settimeout(_PASS_LIMIT_S)
        return sorted(said, key=lambda told: int(told["rank"]))

    def run_pass(self) -> list[Told]:
        """Let all processes train a pass together; what each one's loader did, in no order.

        Raises:
            JobFailedError: one ended or fell silent.
        """
        for line in self._lines:
            try:
                line.write("go\n")
                line.flush()
            except OSError:
                raise JobFailedError(self._last_words()) from None
        return [self._hear(line) for line in self._lines]

    def close(self) -> None:
        """End all processes, by and by more firmly."""
        for line in self._lines:
            with suppress(OSError):
                line.close()
        for connection in (*self._sockets, self._server):
            connection.close()
        for signal_number in (0, signal.SIGTERM, signal.SIGKILL):
            self._launcher.send_signal(signal_number)
            with suppress(subprocess.TimeoutExpired):
                self._launcher.wait(_END_LIMIT_S)
                return

    def __enter__(self) -> Self:
        """The job itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End it."""
        self.close()

    def _hear(self, line: TextIO) -> Told:
        try:
            text = line.readline()
        except TimeoutError:
            raise JobFailedError("a process fell silent") from None
        except OSError:
            text = ""
        if not text:
            raise JobFailedError(self._last_words())
        told: Told = json.loads(text)
        if "error" in told:
            raise JobFailedError(str(told["error"])[:_LAST_WORDS])
        return told

    def _last_words(self) -> str:
        with suppress(subprocess.TimeoutExpired):
            self._launcher.wait(_END_LIMIT_S)
        code = self._launcher.returncode
        lines = [line for line in self._output.read_text(errors="replace").splitlines() if "Error" in line]
        said = lines[0].strip()[:_LAST_WORDS] if lines else "without a word"
        return f"a process ended (exit code {code}): {said}"
