"""One command of `bench-throughput` in a process of its own: a crash, a hang or a full memory ends nothing else."""

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from pclkd.benchmarks.measuring.result import BenchmarkResult, read_result

__all__ = ["SectionFailedError", "run_section"]

_LAST_WORDS = 300  # characters


class SectionFailedError(Exception):
    """The command gave no result; the message tells why."""


def run_section(arguments: Sequence[str], *, budget_s: float, limit_s: float, scratch: Path) -> BenchmarkResult:
    """Run a command for about `budget_s` seconds; its result.

    Args:
        arguments: of `bench-throughput`, without --minutes and --json.
        budget_s: time that it is given, from its start.
        limit_s: when it is ended, with all the processes that it has started.
        scratch: an empty folder for what it writes, temporary files included.

    Raises:
        SectionFailedError: it ended without a result, or had to be ended.
    """
    file, words = scratch / "result.json", scratch / "stderr"
    temporary = scratch / "tmp"
    temporary.mkdir()
    command = [
        *(sys.executable, "-m", "pclkd.benchmarks", str(os.getpid()), *arguments),
        *("--minutes", f"{budget_s / 60:.4f}", "--json", str(file)),
    ]
    with words.open("wb") as stderr:
        # A session of its own, so that its processes can be ended as a group; TMPDIR, so that nothing of it stays.
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=stderr,
            start_new_session=True,
            env={**os.environ, "TMPDIR": str(temporary)},
        )
    try:
        code = process.wait(limit_s)
    except subprocess.TimeoutExpired:
        raise SectionFailedError(f"ended after {limit_s:.0f} s without a result: too slow here for this time") from None
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    if code != 0:
        raise SectionFailedError(_reason(code, words.read_text(errors="replace")))
    return read_result(file)


def _reason(code: int, words: str) -> str:
    lines = [line.strip() for line in words.splitlines() if line.strip() and not line.startswith("round ")]
    how = f"ended by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
    return f"{how}: {lines[-1].removeprefix('error: ')[:_LAST_WORDS]}" if lines else how
