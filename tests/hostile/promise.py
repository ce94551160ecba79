"""The promise that every hostile case is held to, in this process.

A call either works or is refused with one `InputError`, told on one line with its remedy. On the way nothing is
executed, nothing is written outside the folders that it may write to, no more than `BYTES` of memory are taken, and no
more than `SECONDS` of processor time pass. What breaks this is a `BrokenPromiseError`.
"""

import contextlib
import os
import resource
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import click

# These make folders and start programs when they are loaded: not while that is watched.
import matplotlib.font_manager  # noqa: F401
import torch._dynamo  # noqa: F401

import pclkd.training.loop.trainer  # noqa: F401
from pclkd.sharding.common.errors import InputError

BYTES = 512 << 20
SECONDS = 20.0  # of processor time; a case takes milliseconds, but the machine may be busy
_WAITED = 120  # seconds by the clock: nobody waits for a pipe
_LONGEST_MESSAGE = 4_100
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
_EXECUTES = ("os.exec", "os.posix_spawn", "os.spawn", "os.system", "os.fork", "subprocess.Popen", "pty.spawn")
# Events of paths: the places of their arguments that are paths.
_CHANGES = {
    "os.chmod": (0,),
    "os.link": (1,),
    "os.mkdir": (0,),
    "os.remove": (0,),
    "os.rename": (0, 1),
    "os.rmdir": (0,),
    "os.symlink": (1,),
    "os.truncate": (0,),
    "os.utime": (0,),
    "shutil.rmtree": (0,),
}
_CONNECTS = ("socket.connect", "socket.sendto", "urllib.Request", "ftplib.connect", "http.client.connect")


class BrokenPromiseError(AssertionError):
    """What must not happen did."""


class _Watch:
    """What the audit hook, which stays for good, looks for now."""

    writable: tuple[Path, ...] | None = None
    broken: ClassVar[list[str]] = []


def _audit(event: str, arguments: tuple[Any, ...]) -> None:
    if _Watch.writable is None:
        return
    if event in _EXECUTES or event in _CONNECTS:
        _break(f"{event} {arguments!r}")
    elif event == "open":
        path, _, flags = arguments
        if isinstance(flags, int) and flags & _WRITING and not isinstance(path, int):
            _check_place(event, path)
    elif event in _CHANGES:
        for number in _CHANGES[event]:
            if not isinstance(arguments[number], int):
                _check_place(event, arguments[number])


def _check_place(event: str, path: Any) -> None:
    place = Path(os.path.realpath(os.fsdecode(path)))
    if str(place) == os.devnull or "__pycache__" in place.parts:
        return
    if not any(place.is_relative_to(folder) for folder in _Watch.writable or ()):
        _break(f"{event} {place}")


def _break(what: str) -> None:
    _Watch.broken.append(what)
    raise BrokenPromiseError(what)


sys.addaudithook(_audit)


@contextlib.contextmanager
def kept(*writable: Path, more_bytes: int = BYTES, seconds: float = SECONDS) -> Iterator[None]:
    """Watch what happens inside; `writable` are the folders that may be written to."""
    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    status = Path("/proc/self/status").read_text()
    now = next(int(line.split()[1]) << 10 for line in status.splitlines() if line.startswith("VmData"))
    handlers = {number: signal.signal(number, _too_long) for number in (signal.SIGPROF, signal.SIGALRM)}
    _Watch.broken, _Watch.writable = [], tuple(Path(os.path.realpath(folder)) for folder in writable)
    resource.setrlimit(resource.RLIMIT_DATA, (now + more_bytes, hard))
    signal.setitimer(signal.ITIMER_PROF, seconds)
    signal.alarm(_WAITED)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.alarm(0)
        resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))
        _Watch.writable = None
        for number, handler in handlers.items():
            signal.signal(number, handler)
    if _Watch.broken:  # also where the code under test caught it
        raise BrokenPromiseError("; ".join(_Watch.broken))


def _too_long(number: int, _frame: object) -> None:
    raise BrokenPromiseError(f"takes more than {SECONDS if number == signal.SIGPROF else _WAITED} s")


def held(call: Callable[[], Any], *writable: Path, **limits: Any) -> InputError | None:
    """Call it and hold it to the promise; how it was refused, or None where it worked."""
    with kept(*writable, **limits):
        try:
            call()
        except InputError as error:
            check_message(str(error))
            return error
    return None


def check_message(message: str) -> None:
    """One line that can be read: the problem, then the remedy."""
    problem, dash, remedy = message.partition(" - ")
    if not (problem and dash and remedy):
        raise BrokenPromiseError(f"no problem and remedy: {message!r}")
    if not message.isprintable() or len(message) > _LONGEST_MESSAGE:
        raise BrokenPromiseError(f"not one readable line: {message[:300]!r}")


def commanded(main: click.Group, arguments: list[str], *writable: Path, **limits: Any) -> tuple[int, str]:
    """Run a command line and hold it to the promise; its exit code, and all that it said."""
    from click.testing import CliRunner

    with kept(*writable, **limits):
        result = CliRunner().invoke(main, arguments, prog_name="program")
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise BrokenPromiseError(f"{arguments}: {result.exception!r}") from result.exception
    said = result.output
    if "Traceback (most recent" in said or result.exit_code not in (0, 1, 2, 3):
        raise BrokenPromiseError(f"{arguments} ends in {result.exit_code}: {said[-2000:]}")
    errors = [line for line in said.splitlines() if line.lower().startswith("error")]
    if result.exit_code == 2 and len(errors) != 1:
        raise BrokenPromiseError(f"{arguments} tells {len(errors)} errors: {said[-2000:]}")
    for line in said.splitlines():
        if not line.isprintable():
            raise BrokenPromiseError(f"{arguments} tells a terminal what to do: {line[:300]!r}")
    return result.exit_code, said
