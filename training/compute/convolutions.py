"""The convolutions that a network makes, and whether this device's library computes them right.

cuDNN 9.8 to 9.10 computed conv3d in bfloat16 wrongly without a word. oneDNN (torch 2.14.1, on a CPU with avx512_bf16)
gives a weight gradient of small maps that changes from call to call, now and then infinite. Such faults depend on
channels, kernel, stride, map size, number of clips and memory layout, so those of the network itself are tried.
"""

import copy
import logging
import math
import time
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from pclkd.sharding.common.errors import InputError
from pclkd.training.compute.precision import Precision

__all__ = ["Convolution", "check_convolutions", "convolution_errors", "convolutions_of"]

_WORST = {torch.bfloat16: 0.03, torch.float16: 0.03, torch.float32: 0.005}  # the last is TF32's
_LIMIT_S = 10.0  # for all convolutions of a network; the largest of a CPU's are left out
_TURNS = 8
_SLICE = 8  # clips that the reference takes at once
_CPU_WORK = 1e9  # multiply-adds of a convolution on a CPU, which gets as few clips as that takes
_log = logging.getLogger(__name__)
_forward, _backward = torch.ops.aten.convolution.default, torch.ops.aten.convolution_backward.default


@dataclass(frozen=True)
class Convolution:
    """One as a network calls it.

    Attributes:
        clips: [N, C, T, H, W] of its input.
        clip_strides: how that lies in memory.
        weight: [C', C, t, h, w].
        weight_strides: how that lies in memory.
        dtype: that it is computed in.
        geometry: stride, padding, dilation, transposed, output padding and groups, as aten's operator takes them.
        first: whether its input is what the network is fed, which needs no gradient.
    """

    clips: tuple[int, ...]
    clip_strides: tuple[int, ...]
    weight: tuple[int, ...]
    weight_strides: tuple[int, ...]
    dtype: torch.dtype
    geometry: tuple[Any, ...]
    first: bool = False

    @property
    def work(self) -> float:
        """Multiply-adds of a forward pass, about."""
        positions = math.prod(size / step for size, step in zip(self.clips[2:], self.geometry[0], strict=True))
        return float(self.clips[0] * positions * math.prod(self.weight))

    def __str__(self) -> str:
        return f"{list(self.clips)} * {list(self.weight)}, stride {list(self.geometry[0])}"


class _Record(TorchDispatchMode):  # type: ignore[no-untyped-call]
    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.found: dict[Convolution, None] = {}

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if function is _forward and args[0].ndim == 5:  # those of pictures are everybody's, and everybody's tests'
            clips, weight, _, *geometry = args
            plain = tuple(tuple(value) if isinstance(value, list) else value for value in geometry)
            shapes = (*(tuple(clips.shape), clips.stride()), *(tuple(weight.shape), weight.stride()))
            self.found[Convolution(*shapes, clips.dtype, plain, first=not self.found)] = None
        return function(*args, **(kwargs or {}))


def convolutions_of(network: nn.Module, clips: torch.Tensor, precision: Precision) -> list[Convolution]:
    """Each distinct convolution of a forward pass, in order, as the device and the precision have it.

    Args:
        network: on its device; a copy of it makes a pass with two of the clips.
        clips: [N, 3, T, H, W], what it is fed, on its device and in its memory layout.
        precision: of the run.
    """
    record = _Record()
    with torch.no_grad(), precision.autocast(), record:
        copy.deepcopy(network)(clips[:2])
    times = len(clips) / len(clips[:2])  # the outermost number is in no stride
    return [replace(found, clips=(int(times * found.clips[0]), *found.clips[1:])) for found in record.found]


def check_convolutions(
    network: nn.Module,
    clips: torch.Tensor,
    precision: Precision,
    *,
    learned: bool = True,
    trust_cpu: bool = True,
    limit_s: float = _LIMIT_S,
) -> dict[Convolution, dict[str, float]]:
    """Compare a network's convolutions with a plain implementation, and refuse to train where they are off.

    Each distinct one is tried at its own size, layout and precision, so that cuDNN's choice of an algorithm is the
    one that training gets, once in a process. What the time does not suffice for is logged.

    Args:
        network: on its device; it is left as it is.
        clips: [N, 3, T, H, W], what it is fed, on its device and in its memory layout; only their shape counts.
        precision: of the run.
        learned: whether gradients are needed.
        trust_cpu: take float32 on a CPU for right, untried.
        limit_s: seconds that it may take, about.

    Returns:
        For each convolution that was tried the relative error of "the output", "the weight gradient" and "the data
        gradient".

    Raises:
        InputError: a relative error passes 3 % (bf16, fp16) or 0.5 % (fp32 on a GPU, where TF32 has 0.05 %).
    """
    found: dict[Convolution, dict[str, float]] = {}
    if trust_cpu and precision.name == "fp32" and clips.device.type == "cpu":
        return found
    began = time.perf_counter()
    every = sorted(convolutions_of(network, clips, precision), key=lambda convolution: convolution.work)
    for number, convolution in enumerate(every):
        left = limit_s - (time.perf_counter() - began)
        if left < 0:
            _log.warning("not checked for want of time: the convolutions %s", "; ".join(map(str, every[number:])))
            break
        turn_limit = left / (len(every) - number)
        errors = _known_errors(convolution, clips.device, learned, turn_limit)
        for what, error in errors.items():
            if not error < _WORST[convolution.dtype]:
                raise _refusal(what, error, convolution, precision)
        found[convolution] = errors
    worst = max((error for errors in found.values() for error in errors.values()), default=0.0)
    _log.info("%d convolutions in %s are right: off by %.2g at most", len(found), precision.name, worst)
    return found


_known: dict[tuple[object, ...], dict[str, float]] = {}  # of this process


def _known_errors(convolution: Convolution, device: torch.device, learned: bool, limit_s: float) -> dict[str, float]:
    """As `convolution_errors`; while cuDNN is told the same, each is tried once in a process: teachers share theirs."""
    library = torch.backends.cudnn
    told = (library.enabled, library.benchmark, library.deterministic, library.allow_tf32)
    key = (convolution, device, *told)
    found = _known.get((*key, True)) or _known.get((*key, learned))
    if found is None:
        found = _known[*key, learned] = convolution_errors(convolution, device, learned=learned, limit_s=limit_s)
    return found if learned else {"the output": found["the output"]}


def _refusal(what: str, error: float, convolution: Convolution, precision: Precision) -> InputError:
    library = "oneDNN"
    if precision.device.type == "cuda":
        library = f"cuDNN {torch.backends.cudnn.version()}"  # type: ignore[no-untyped-call]
    return InputError(
        f"{what} of conv3d in {precision.name} is off by {100 * error:.1f} % here ({library}; {convolution})",
        remedy="use another version of torch, or --set precision=fp32 (--set precision=bf16 where that is fp32)",
    )


def convolution_errors(
    convolution: Convolution, device: torch.device, *, learned: bool = True, limit_s: float = math.inf
) -> dict[str, float]:
    """How far a convolution and its gradients of random numbers are off, the worst of up to eight turns.

    Args:
        convolution: on a CPU with fewer clips, where all of them would take long.
        device: to compute on.
        learned: whether to try the gradients.
        limit_s: seconds after which no further turn begins.

    Returns:
        ||found - true|| / ||true|| by name; true is what neither cuDNN nor oneDNN has computed.
    """
    began = time.perf_counter()
    number, *rest = convolution.clips
    if device.type == "cpu":
        number = max(1, min(number, int(_CPU_WORK * number / convolution.work)))
    kind: dict[str, Any] = {"dtype": convolution.dtype, "device": device}
    clips = _random(torch.empty_strided((number, *rest), convolution.clip_strides, **kind))
    weight = _random(torch.empty_strided(convolution.weight, convolution.weight_strides, **kind))
    weight.mul_(math.prod(convolution.weight[1:]) ** -0.5)  # keeps the variance
    gradient = None
    if learned:
        output = _forward(clips, weight, None, *convolution.geometry)
        # The root of the root keeps all three within what float16 can tell.
        gradient = _random(torch.empty_like(output)).mul_((output.numel() / output.shape[1]) ** -0.25)
    exact = _plainly(convolution, clips, weight, gradient)
    worst = dict.fromkeys(exact, 0.0)
    for turn in range(_TURNS):
        if turn and time.perf_counter() - began > limit_s:
            break
        for name, rough in _computed(convolution, clips, weight, gradient).items():
            true = exact[name]
            error = ((rough.to(true.dtype) - true).norm() / true.norm()).item()
            worst[name] = max(worst[name], error if math.isfinite(error) else math.inf)
    return worst


def _random(tensor: torch.Tensor) -> torch.Tensor:
    """Filled with normal numbers, the same each time, in its own memory layout."""
    generator = torch.Generator(tensor.device).manual_seed(tensor.ndim + tensor.numel())
    return tensor.copy_(torch.randn(tensor.shape, generator=generator, device=tensor.device))


def _computed(
    convolution: Convolution, clips: torch.Tensor, weight: torch.Tensor, gradient: torch.Tensor | None
) -> dict[str, torch.Tensor]:
    found = {"the output": _forward(clips, weight, None, *convolution.geometry)}
    if gradient is not None:
        wanted = [not convolution.first, True, False]
        data, weights, _ = _backward(gradient, clips, weight, [0], *convolution.geometry, wanted)
        found |= {"the weight gradient": weights} | ({"the data gradient": data} if wanted[0] else {})
    return found


def _plainly(
    convolution: Convolution, clips: torch.Tensor, weight: torch.Tensor, gradient: torch.Tensor | None
) -> dict[str, torch.Tensor]:
    """The same by torch's own matrix products: in float64, which oneDNN has not; on a GPU for halves in float32."""
    exact = torch.float32 if clips.is_cuda and convolution.dtype != torch.float32 else torch.float64
    parts = []
    with torch.backends.cudnn.flags(enabled=False):
        for start in range(0, len(clips), _SLICE):
            rows = slice(start, start + _SLICE)
            own, learned = (None if t is None else t[rows].to(exact).contiguous() for t in (clips, gradient))
            assert own is not None
            parts.append(_computed(convolution, own, weight.to(exact).contiguous(), learned))
    found = {name: torch.cat([part[name] for part in parts]) for name in parts[0] if name != "the weight gradient"}
    if gradient is not None:
        found["the weight gradient"] = torch.stack([part["the weight gradient"] for part in parts]).sum(0)
    return found
