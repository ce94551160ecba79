"""What is counted, not timed: CPU time of a process with its descendants, arithmetic, bytes between processes.

Other users of the machine hardly disturb it.
"""

from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from types import TracebackType
from typing import Any, Self

import psutil  # type: ignore[import-untyped]
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

__all__ = ["CollectiveBytes", "count_operations", "peak_tflop_per_s", "tree_seconds"]


# Dense bf16 or fp16 tensor-core peak, TFLOP/s. Source: NVIDIA's data sheets of the SXM modules; the PCIe and NVL cards
# of the same names are slower and not listed.
_PEAKS = {"NVIDIA H100 80GB HBM3": 989.0, "NVIDIA H200": 989.0}


def count_operations(work: Callable[[], object]) -> float:
    """TFLOP of a piece of work, such as a step with its teacher and its backward pass; a multiply-add is two.

    Does the work. Counts convolutions and matrix products, which are all but a percent, and those of padded edges too.
    Compiled networks hide theirs.
    """
    with FlopCounterMode(display=False) as counter:
        work()
    return float(counter.get_total_flops()) / 1e12


def peak_tflop_per_s(device: torch.device, precision: str) -> float | None:
    """The device's peak in that precision, None where it is not known here."""
    if device.type != "cuda" or precision not in {"bf16", "fp16"}:
        return None
    return _PEAKS.get(torch.cuda.get_device_name(device))


class CollectiveBytes:
    """Counts while its block runs, backward passes and DistributedDataParallel's own exchanges included.

    Attributes:
        by_kind: bytes by collective ("allreduce", "allgather", "broadcast", ...): what every process holds in the end,
            S. A ring of N processes sends 2 (N - 1) / N x S of an all-reduce from each one to the next, and
            (N - 1) / N x S of an all-gather.
    """

    def __init__(self) -> None:
        self.by_kind: Counter[str] = Counter()
        self._mode = _Watch(self.by_kind)

    def __enter__(self) -> Self:
        """Count from here on."""
        self._mode.__enter__()  # type: ignore[no-untyped-call]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Count no more."""
        self._mode.__exit__(kind, error, trace)  # type: ignore[no-untyped-call]


class _Watch(TorchDispatchMode):  # type: ignore[no-untyped-call]
    def __init__(self, by_kind: Counter[str]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._by_kind = by_kind

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        call: Callable[..., Any] = func
        if func.namespace == "c10d":
            kind = func._schema.name.removeprefix("c10d::").strip("_").removesuffix("_base")
            # The first argument is what the collective fills, in all of them.
            filled = [leaf for leaf in tree_leaves(args[0]) if isinstance(leaf, torch.Tensor)]
            self._by_kind[kind] += sum(tensor.numel() * tensor.element_size() for tensor in filled)
        return call(*args, **(kwargs or {}))


def tree_seconds() -> float:
    """CPU seconds that this process and its living descendants have used, user and system, all threads.

    In steps of a hundredth of a second. What processes used that have ended since is not in it.
    """
    ours, seconds = psutil.Process(), 0.0
    for process in (ours, *ours.children(recursive=True)):
        with suppress(psutil.NoSuchProcess):  # ended just now
            used = process.cpu_times()
            seconds += used.user + used.system
    return seconds
