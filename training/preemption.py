"""Being asked to stop: SIGTERM and SIGUSR1 let the step under way end, the run saves and leaves with exit code 75.

Schedulers send one of the two before they take a machine away; 75 (EX_TEMPFAIL) tells them to start the job again.
"""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

import torch
import torch.distributed as dist

__all__ = ["EXIT_PREEMPTED", "PreemptedError", "StopRequest", "listening"]

EXIT_PREEMPTED = 75
_SIGNALS = (signal.SIGTERM, signal.SIGUSR1)


class PreemptedError(Exception):
    """The run was asked to stop and has saved; it can be resumed."""

    def __init__(self, step: int) -> None:
        self.step = step
        super().__init__(f"stopped by a signal after step {step}; the run is saved and can be resumed with --resume")


class StopRequest:
    """Whether this process was asked to stop."""

    def __init__(self) -> None:
        self.asked = False

    def agreed(self, device: torch.device) -> bool:
        """Whether any process of the job was asked, the same answer on every rank.

        Args:
            device: of the process group's tensors.
        """
        if not (dist.is_available() and dist.is_initialized()):
            return self.asked
        flag = torch.tensor([int(self.asked)], device=device)
        dist.all_reduce(flag, op=dist.ReduceOp.MAX)
        return bool(flag.item())


@contextmanager
def listening() -> Iterator[StopRequest]:
    """Take note of SIGTERM and SIGUSR1 within the block instead of dying of them.

    Signals reach the main thread alone: in another thread nothing is listened to.
    """
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield request
        return

    def note(number: int, frame: FrameType | None) -> None:  # noqa: ARG001 - what a handler gets
        request.asked = True

    before = {number: signal.signal(number, note) for number in _SIGNALS}
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
