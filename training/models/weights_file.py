"""Files that torch.save wrote, read as if an enemy had: nothing in them runs, none takes more memory than its size.

torch's `weights_only` lets no code in, but takes the file's word for lengths: of storages, of compressed records, of
tensors that are one number repeated. So the reader gets no more memory than a file of that size can need, and a tensor
must have its numbers in the file.
"""

import math
import pickle
import re
import resource
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from pclkd.sharding.common.errors import visible
from pclkd.sharding.common.files import no_device

__all__ = ["UnreadableWeightsError", "load_weights_file", "refuse_not_finite", "room_for"]

_COPIES = 3  # of a file's bytes that may be in memory at once: torch's reader, a buffer, the tensors
_ROOM = 64 << 20  # bytes beside them
_MOST_VALUES = 1_000_000  # containers and values in a file


class UnreadableWeightsError(ValueError):
    """A file that is not read, and why, on one line."""


def load_weights_file(path: Path) -> Any:
    """Read what torch.save wrote to the CPU: tensors and plain values, and no others.

    Raises:
        InputError: a pipe or a device.
        UnreadableWeightsError: damaged, of other contents, or made to take more memory than it has bytes.
        OSError: there is no such file, or it cannot be opened.
    """
    size = no_device(path).stat().st_size
    try:
        with path.open("rb") as file, _memory_at_most(_COPIES * size + _ROOM):
            content = torch.load(file, map_location="cpu", weights_only=True)
            _check(content)
    except UnreadableWeightsError:
        raise
    except Exception as error:  # torch's reader raises whatever a damaged file leads it to
        raise UnreadableWeightsError(_reason(error)) from None
    return content


def refuse_not_finite(state: Mapping[str, torch.Tensor]) -> None:
    """Refuse weights of a training that diverged.

    Raises:
        ValueError: numbers that are NaN or infinite: of which tensor, and how many.
    """
    for name, value in state.items():
        if value.is_floating_point() and (wrong := int((~torch.isfinite(value)).sum())):
            raise ValueError(f"{wrong} of the {value.numel()} numbers of {visible(name)} are NaN or infinite")


@contextmanager
def room_for(state: Mapping[str, torch.Tensor]) -> Iterator[None]:
    """Let a network be built that these weights can fill, and none of any size that a file may tell of.

    Raises:
        ValueError: it takes more memory.
    """
    try:
        with _memory_at_most(_COPIES * sum(value.nbytes for value in state.values()) + _ROOM):
            yield
    except (MemoryError, RuntimeError) as error:
        if not _lacks_memory(error):
            raise
        raise ValueError("there are far fewer weights than such a network has") from None


@contextmanager
def _memory_at_most(more: int) -> Iterator[None]:
    """Let the process take so many bytes more, and no others; then give it its limit back."""
    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    status = Path("/proc/self/status").read_text()
    now = next(int(line.split()[1]) << 10 for line in status.splitlines() if line.startswith("VmData"))
    limits = [limit for limit in (now + more, soft, hard) if limit != resource.RLIM_INFINITY]
    resource.setrlimit(resource.RLIMIT_DATA, (min(limits), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))


def _check(content: Any) -> None:
    waiting, found = [content], 0
    while waiting:
        value = waiting.pop()
        found += 1
        if found > _MOST_VALUES:  # a list of lists may name the same one over and over
            raise UnreadableWeightsError(f"it holds more than {_MOST_VALUES} values")
        if isinstance(value, torch.Tensor):
            _check_tensor(value)
        elif isinstance(value, Mapping):
            waiting += value.values()
        elif isinstance(value, list | tuple | set):
            waiting += value


def _check_tensor(value: torch.Tensor) -> None:
    kind = type(value) not in (torch.Tensor, torch.nn.Parameter) or value.layout != torch.strided
    if kind or value.device.type != "cpu" or value.is_quantized:
        raise UnreadableWeightsError("it holds tensors of another kind than plain ones")
    if math.prod(value.shape) * value.element_size() > value.untyped_storage().nbytes():
        raise UnreadableWeightsError(f"it holds a tensor of shape {tuple(value.shape)} without the numbers of one")


def _reason(error: Exception) -> str:
    """What is wrong with a file that torch refuses, in one line, without its advice to load it all the same."""
    text = str(error)
    if found := re.search(r"Unsupported (?:global: GLOBAL|class) ([\w.]+)", text):
        return f"it holds {found[1]}, not tensors and plain values alone"
    if isinstance(error, pickle.UnpicklingError):
        return "it is no file of tensors and plain values that torch.save wrote"
    if _lacks_memory(error):
        return "it asks for more memory than a file of its size can need"
    return visible((text or type(error).__name__).splitlines()[0])


def _lacks_memory(error: Exception) -> bool:
    return isinstance(error, MemoryError) or "allocate memory" in str(error)
