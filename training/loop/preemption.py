"""Being asked to stop: SIGTERM and SIGUSR1 let the step under way end, the run saves and leaves with exit code 75.

Schedulers send one of the two before they take a machine away; 75 (EX_TEMPFAIL) tells them to start the job again.
"""

import signal
from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.distributed as dist

from pclkd.sharding.common.processes import on_signals
from pclkd.training.loop.figures import HostCopy

__all__ = ["EXIT_PREEMPTED", "PreemptedError", "StopRequest", "listening"]

EXIT_PREEMPTED = 75
_SIGNALS = (signal.SIGTERM, signal.SIGUSR1)


class PreemptedError(Exception):
    """The run was asked to stop and has saved; it can be resumed."""

    on_all_ranks = True

    def __init__(self, step: int) -> None:
        self.step = step
        super().__init__(f"stopped by a signal after step {step}; the run is saved and can be resumed with --resume")


class StopRequest:
    """Whether this process was asked to stop."""

    def __init__(self) -> None:
        self.asked = False
        self._vote: _Vote | None = None
        self._agreed = False

    def ask(self, signal_number: int) -> None:  # noqa: ARG002 - whichever it was
        """A signal came."""
        self.asked = True

    def agreed(self, device: torch.device, *, wait: bool = False) -> bool:
        """Whether any process of the job was asked, the same answer on every rank at the same call.

        Processes tell each other in the background. So that no call waits for the device, it answers with what was
        known at the call before; with `wait` it answers with what is known now.

        Args:
            device: of the process group's tensors.
            wait: for the answer to this very call.
        """
        if not (dist.is_available() and dist.is_initialized()):
            return self.asked
        if self._agreed:
            return True
        votes = [] if self._vote is None else [self._vote]
        self._vote = _Vote(asked=self.asked, device=device)
        if wait:
            votes.append(self._vote)
            self._vote = None
        answers = [vote.read() for vote in votes]  # every one, whatever the others say
        self._agreed = any(answers)
        return self._agreed

    def settle(self) -> None:
        """Hear what is still under way, before the processes part."""
        if self._vote is not None:
            self._vote.read()
            self._vote = None


class _Vote:
    """One question to all processes, on its way."""

    def __init__(self, *, asked: bool, device: torch.device) -> None:
        # Filled on the device: a copy from the host would wait for it.
        self._flag = torch.full((1,), int(asked), dtype=torch.int64, device=device)
        self._work = dist.all_reduce(self._flag, op=dist.ReduceOp.MAX, async_op=True)
        self._copy: HostCopy | None = None
        if device.type == "cuda":
            self._work.wait()  # orders the streams; the host goes on
            self._copy = HostCopy(self._flag)

    def read(self) -> bool:
        if self._copy is None:
            self._work.wait()
            self._copy = HostCopy(self._flag)
        return bool(self._copy.read()[0])


@contextmanager
def listening() -> Iterator[StopRequest]:
    """Take note of SIGTERM and SIGUSR1 within the block instead of dying of them; in the main thread alone."""
    request = StopRequest()
    with on_signals(_SIGNALS, request.ask):
        yield request
