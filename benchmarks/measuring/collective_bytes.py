"""How many bytes the processes of a job exchange, counted at torch's dispatcher: whoever asks, nothing is missed."""

from collections import Counter
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, Self

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

__all__ = ["CollectiveBytes"]


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
