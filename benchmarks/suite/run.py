"""One command of `bench-throughput` in a process of its own: a crash, a hang or a full memory ends nothing else."""

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from pclkd.benchmarks.measuring.result import BenchmarkResult, read_result

__all__ = ["SectionFailedError", "run_command", "run_section"]

_LAST_WORDS = 300  # characters


class SectionFailedError(Exception):
    """The command did not come to its end; the message tells why."""


def run_section(arguments: Sequence[str], *, budget_s: float, limit_s: float, scratch: Path) -> BenchmarkResult:
    """Run a command for about `budget_s` seconds; its result, or what it had told when it was ended.

    Args:
        arguments: of `bench-throughput`, without --minutes and --json.
        budget_s: time that it is given, from its start.
        limit_s: when it is ended, with all the processes that it has started.
        scratch: an empty folder for what it writes, temporary files included.

    Raises:
        SectionFailedError: it ended, or had to be ended, before its first round was through.
    """
    file = scratch / "result.json"
    told = ["--minutes", f"{budget_s / 60:.4f}", "--json", str(file)]
    try:
        run_command([*arguments, *told], limit_s=limit_s, scratch=scratch, words=scratch / "stderr")
    except SectionFailedError as error:
        if not file.exists():
            raise
        part = read_result(file)
        return part.model_copy(update={"notes": [f"the rounds until it was cut off: {error}", *part.notes]})
    return read_result(file)


def run_command(arguments: Sequence[str], *, limit_s: float, scratch: Path, words: Path) -> None:
    """Run `bench-throughput` with these arguments; what it prints is dropped.

    Args:
        arguments: of `bench-throughput`.
        limit_s: when it is ended, with all the processes that it has started.
        scratch: folder for its temporary files.
        words: file that its standard error is added to.

    Raises:
        SectionFailedError: it failed, crashed or had to be ended.
    """
    temporary = scratch / "tmp"
    temporary.mkdir(exist_ok=True)
    command = [sys.executable, "-m", "pclkd.benchmarks", str(os.getpid()), *arguments]
    before = words.stat().st_size if words.exists() else 0
    with words.open("ab") as stderr:
        # A session of its own, so that its processes can be ended as a group; TMPDIR, so that nothing of it stays.
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=stderr,
            start_new_session=True,
            env={**_compiled(), **os.environ, "TMPDIR": str(temporary)},
        )
    try:
        code = process.wait(limit_s)
    except subprocess.TimeoutExpired:
        raise SectionFailedError(f"ended after {limit_s:.0f} s: too slow here for this time") from None
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    if code != 0:
        raise SectionFailedError(_reason(code, words.read_bytes()[before:].decode(errors="replace")))


def _compiled() -> dict[str, str]:
    """Where compilers keep what they made: beside the temporary files of all sections, so that each finds it again."""
    return {"TORCHINDUCTOR_CACHE_DIR": str(Path(tempfile.gettempdir()) / f"pclkd-compiled-{os.getuid()}")}


def _reason(code: int, words: str) -> str:
    lines = [line.strip() for line in words.splitlines() if line.strip() and not line.startswith("round ")]
    how = f"ended by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
    return f"{how}: {lines[-1].removeprefix('error: ')[:_LAST_WORDS]}" if lines else how
