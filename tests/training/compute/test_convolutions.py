import logging
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from pclkd.sharding.common.errors import InputError
from pclkd.training.compute import convolutions
from pclkd.training.compute.convolutions import (
    Convolution,
    check_convolutions,
    convolution_errors,
    convolutions_of,
)
from pclkd.training.compute.precision import Precision
from pclkd.training.compute.settings import Layout
from pclkd.training.models.memory_layout import layout_of, placed
from pclkd.training.models.registry import build_backbone

pytestmark = pytest.mark.usefixtures("one_thread")

CPU = torch.device("cpu")
BF16, FP32 = Precision("bf16", CPU), Precision("fp32", CPU)


@pytest.fixture(autouse=True)
def nothing_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(convolutions, "_known", {})


def fed(network: torch.nn.Module, *shape: int) -> torch.Tensor:
    return torch.zeros(shape).contiguous(memory_format=layout_of(network))


@pytest.mark.parametrize("layout", ["contiguous", "channels-last"])
def test_the_convolutions_of_a_network_are_those_that_it_calls(layout: Layout) -> None:
    network = placed(build_backbone("r3d", 0.125), CPU, layout)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    found = convolutions_of(network, fed(network, 5, 3, 8, 32, 32), BF16)
    # Channels 8, 16, 32, 64; the stem halves H and W, the later stages T, H and W.
    stem = ((5, 3, 8, 32, 32), (8, 3, 3, 7, 7), (1, 2, 2))
    expected = [stem, ((5, 8, 8, 16, 16), (8, 8, 3, 3, 3), (1, 1, 1))]
    for channels, frames, side in ((8, 8, 16), (16, 4, 8), (32, 2, 4)):
        wide, after = 2 * channels, (5, 2 * channels, frames // 2, side // 2, side // 2)
        clips = (5, channels, frames, side, side)
        shrinking = [(clips, (wide, channels, 3, 3, 3), (2, 2, 2)), (clips, (wide, channels, 1, 1, 1), (2, 2, 2))]
        expected += [*shrinking, (after, (wide, wide, 3, 3, 3), (1, 1, 1))]
    told = [(c.clips, c.weight, c.geometry[0]) for c in found]
    assert sorted(told) == sorted(expected)
    assert [c.first for c in found] == [True] + [False] * (len(found) - 1)
    assert {c.dtype for c in found} == {torch.bfloat16}
    # Channel strides of 1: that is how the maps and kernels of channels-last lie.
    assert all((c.clip_strides[1] == 1) == (layout == "channels-last") for c in found)
    assert all((c.weight_strides[1] == 1) == (layout == "channels-last") for c in found if c.weight[2:] != (1, 1, 1))
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    ("shape", "geometry"),
    [
        ((8, 4, 3, 3, 3), ((2, 1, 2), (1, 0, 1), (1, 1, 1), False, (0, 0, 0), 1)),
        ((4, 2, 1, 1, 1), ((1, 1, 1), (0, 0, 0), (1, 1, 1), False, (0, 0, 0), 2)),
        ((4, 3, 3, 1, 2), ((1, 1, 1), (0, 0, 0), (1, 1, 1), True, (0, 0, 0), 1)),
    ],
)
def test_right_convolutions_of_any_kind_are_found_right(
    dtype: torch.dtype, shape: tuple[int, ...], geometry: tuple[Any, ...]
) -> None:
    clips, weight = (
        torch.empty(11, 4, 5, 6, 7, dtype=dtype).to(memory_format=torch.channels_last_3d),
        torch.empty(shape),
    )
    convolution = Convolution(tuple(clips.shape), clips.stride(), shape, weight.stride(), dtype, geometry)
    errors = convolution_errors(convolution, CPU)
    assert set(errors) == {"the output", "the weight gradient", "the data gradient"}
    assert all(error < 1e-5 for error in errors.values())
    assert set(convolution_errors(convolution, CPU, learned=False)) == {"the output"}


class Wrong(TorchDispatchMode):
    """A library that computes one kind of convolution wrongly."""

    def __init__(self, backward: int | None, strange: Callable[[torch.Tensor, list[int]], bool]) -> None:
        super().__init__()
        self._backward, self._strange = backward, strange

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = function(*args, **(kwargs or {}))
        name = function._schema.name
        if name == "aten::convolution" and self._backward is None and self._strange(args[0], args[3]):
            result[0].mul_(1.2)
        if name == "aten::convolution_backward" and self._backward is not None and self._strange(args[1], args[4]):
            gradient = result[self._backward]
            if gradient is not None:
                gradient.mul_(1.05)
        return result


def _is_last(clips: torch.Tensor) -> bool:
    return clips.dtype == torch.bfloat16 and clips.is_contiguous(memory_format=torch.channels_last_3d)


WRONG: dict[str, tuple[int | None, Callable[[torch.Tensor, list[int]], bool]]] = {
    "the output": (None, lambda clips, stride: _is_last(clips) and clips.shape[1] == 3),
    "the weight gradient": (1, lambda clips, stride: _is_last(clips) and list(stride) == [2, 2, 2]),
    "the data gradient": (0, lambda clips, stride: _is_last(clips) and clips.shape[3] == 16),
}


@pytest.mark.parametrize("what", WRONG)
def test_a_fault_of_one_layout_stride_or_gradient_is_found(what: str) -> None:
    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Conv3d(3, 4, 3, padding=1), torch.nn.Conv3d(4, 4, 3, (2, 2, 2), padding=1))
    network = placed(network, CPU, "channels-last")
    clips = fed(network, 3, 3, 4, 16, 16)
    backward, strange = WRONG[what]
    with Wrong(backward, strange), pytest.raises(InputError, match=f"{what} of conv3d in bf16 is off by") as refused:
        check_convolutions(network, clips, BF16)
    assert "[3, " in str(refused.value) and "precision=fp32" in str(refused.value)
    if backward is not None:  # a frozen teacher needs no gradients
        with Wrong(backward, strange):
            check_convolutions(network, clips, BF16, learned=False)


def test_a_convolution_is_tried_once_in_a_process_while_the_library_is_told_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tried = []
    errors = convolutions.convolution_errors

    def counting(convolution: Convolution, *given: Any, **named: Any) -> dict[str, float]:
        tried.append((convolution.weight[0], named["learned"]))
        return errors(convolution, *given, **named)

    monkeypatch.setattr(convolutions, "convolution_errors", counting)
    networks = [torch.nn.Conv3d(3, channels, 3) for channels in (4, 4, 6)]
    for network in networks:
        found = check_convolutions(network, fed(network, 1, 3, 4, 8, 8), BF16)
        assert [set(errors) for errors in found.values()] == [{"the output", "the weight gradient"}]
    assert tried == [(4, True), (6, True)]
    found = check_convolutions(networks[0], fed(networks[0], 1, 3, 4, 8, 8), BF16, learned=False)
    assert [set(errors) for errors in found.values()] == [{"the output"}] and len(tried) == 2
    with torch.backends.cudnn.flags(allow_tf32=not torch.backends.cudnn.allow_tf32):
        check_convolutions(networks[0], fed(networks[0], 1, 3, 4, 8, 8), BF16, learned=False)
    assert tried[2:] == [(4, False)]


def test_float32_on_a_cpu_needs_no_check() -> None:
    network = torch.nn.Conv3d(3, 4, 3)
    assert check_convolutions(network, fed(network, 1, 3, 4, 8, 8), FP32) == {}


def test_what_there_was_no_time_for_is_told(caplog: pytest.LogCaptureFixture) -> None:
    network = torch.nn.Conv3d(3, 4, 3)
    with caplog.at_level(logging.WARNING):
        assert check_convolutions(network, fed(network, 1, 3, 4, 8, 8), BF16, limit_s=-1) == {}
    assert "[1, 3, 4, 8, 8] * [4, 3, 3, 3, 3], stride [1, 1, 1]" in caplog.text


def test_the_check_says_what_bf16_convolutions_of_small_maps_do_on_this_cpu() -> None:
    """oneDNN's weight gradient of 32 channels on 2 x 4 x 4 maps changed from call to call with torch 2.14.1."""
    torch.manual_seed(0)
    network = torch.nn.Conv3d(32, 32, 3, padding=1)
    clips = torch.randn(12, 32, 2, 4, 4)

    def gradient(autocast: bool) -> torch.Tensor:
        network.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            output = network(clips)
        output.float().square().mean().backward()
        assert network.weight.grad is not None
        return network.weight.grad.clone()

    exact = gradient(False)
    errors = [float((gradient(True) - exact).norm() / exact.norm()) for _ in range(40)]
    if all(error < 0.03 for error in errors):
        check_convolutions(network, clips, BF16)
    else:
        with pytest.raises(InputError, match="the weight gradient of conv3d in bf16 is off"):
            check_convolutions(network, clips, BF16)


@pytest.mark.gpu
@pytest.mark.parametrize("layout", ["contiguous", "channels-last"])
@pytest.mark.parametrize("name", ["bf16", "fp16", "fp32"])
def test_the_convolutions_of_r3d_are_right_on_this_gpu(name: str, layout: Layout) -> None:
    gpu = torch.device("cuda", 0)
    network = placed(build_backbone("r3d"), gpu, layout)
    clips = torch.zeros(8, 3, 16, 112, 112, device=gpu).contiguous(memory_format=layout_of(network))
    assert len(check_convolutions(network, clips, Precision(name, gpu))) == 11
