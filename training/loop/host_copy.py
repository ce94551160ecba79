"""A few numbers on their way from the device to the host, read when they are needed."""

import torch

__all__ = ["HostCopy"]


class HostCopy:
    """Copies a tensor without waiting for the device; whoever reads it waits until it is there, and no longer.

    Args:
        tensor: a few numbers that do not change any more; on a GPU, of its current stream.
    """

    def __init__(self, tensor: torch.Tensor) -> None:
        self._done: torch.cuda.Event | None = None
        # From a GPU this goes to pinned memory: a pageable target would make the host wait here.
        self._values = tensor.to("cpu", non_blocking=True)
        if tensor.is_cuda:
            # Waiting for it must not keep a core busy that the loader could use.
            self._done = torch.cuda.Event(blocking=True)  # type: ignore[no-untyped-call]
            self._done.record(torch.cuda.current_stream(tensor.device))

    def read(self) -> list[float]:
        """The numbers; waits for the work that was given to the device before the copy, and for nothing after it."""
        if self._done is not None:
            self._done.synchronize()
        values: list[float] = self._values.tolist()
        return values
