"""What machine this is, how fast it multiplies and copies, and whether its convolutions are right."""

import importlib.util
import os
import shutil
import subprocess
from typing import Any

import torch

from pclkd.benchmarks.gpu.bench import Bench
from pclkd.benchmarks.gpu.rows import LeftOutError, Value
from pclkd.benchmarks.measuring.clip_shape import ClipShape, synchronise
from pclkd.benchmarks.steps.case import random_batch
from pclkd.benchmarks.steps.matrix_limit import matrix_product
from pclkd.training.compute.convolutions import check_convolutions
from pclkd.training.compute.precision import Precision
from pclkd.training.compute.settings import Layout
from pclkd.training.models.memory_layout import placed
from pclkd.training.models.pcl_model import PclModel
from pclkd.training.models.registry import build_backbone
from pclkd.training.runs.environment import describe_environment

__all__ = ["contexts", "gradient_errors", "health"]

_PRECISIONS = ("bf16", "fp16", "fp32")
_LAYOUTS: tuple[Layout, ...] = ("contiguous", "channels-last")
_OPTIONAL = ("nvidia.dali", "av", "webdataset", "simplejpeg", "torchcodec", "decord", "triton")
_COPIED = {"cuda": 2**30, "cpu": 2**24}  # bytes


def health(bench: Bench) -> None:
    """The environment, matrix products, memory, convolutions and gradients."""
    take = bench.take
    bench.rows.take("environment", _environment)
    for name in _PRECISIONS:
        take(f"matrix_{name}", _matrix, name, needs_gpu=name == "fp16")
    take("memory_copy", _copy)
    for name in _PRECISIONS:
        take(f"conv3d_{name}", _conv3d, name, needs_gpu=True)
    for name in _PRECISIONS:
        for layout in _LAYOUTS:
            take(f"gradient_{name}_{layout}", _gradient, name, layout, needs_gpu=True)


def _environment() -> dict[str, Value]:
    found: dict[str, Any] = dict(describe_environment())
    found |= {f"has_{name.rpartition('.')[2]}": str(_installed(name)).lower() for name in _OPTIONAL}
    found["tf32_convolutions"] = str(torch.backends.cudnn.allow_tf32).lower()
    return found


def _installed(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:  # nor its parent
        return False


def _matrix(bench: Bench, name: str) -> dict[str, Value]:
    product = matrix_product(Precision(name, bench.device))
    return bench.rate(product.work, "tflop_per_s") | {"side": float(product.side), "library": product.library}


def _copy(bench: Bench) -> dict[str, Value]:
    size = _COPIED[bench.device.type]
    here = torch.ones(size, dtype=torch.uint8, device=bench.device)
    there = torch.empty_like(here)

    def work() -> float:
        there.copy_(here)
        synchronise(bench.device)
        return 2 * size / 1e9  # read and written

    return bench.rate(work, "gb_per_s")


def _conv3d(bench: Bench, name: str) -> dict[str, Value]:
    """Each distinct convolution of R3D as a run has it, and the worst relative error of each kind."""
    precision, shape = Precision(name, bench.device), bench.sizes.shape
    network = placed(PclModel(build_backbone("r3d", bench.sizes.width)), bench.device, "channels-last")
    clips = next(network.passes(random_batch(shape, shape.batch_size, bench.device).clips)).flatten(0, 1)
    found = check_convolutions(network.base_network, clips, precision)
    worst: dict[str, Value] = {"convolutions": float(len(found))}
    for errors in found.values():
        for what, error in errors.items():
            known = worst.get(what)
            worst[what] = max(error, known) if isinstance(known, float) else error
    return worst


def gradient_errors(width: float, shape: ClipShape, precision: Precision, layout: Layout) -> dict[str, float]:
    """How far R3D's features and gradients are from those in float32 without cuDNN and TF32, relative.

    Args:
        width: of the network.
        shape: of the clips.
        precision: arithmetic and device.
        layout: of the network.

    Returns:
        `features`, `gradient` (of all weights together), and `worst_gradient` of one weight.
    """
    device = precision.device
    clips = random_batch(shape, shape.batch_size, device).clips
    torch.manual_seed(0)
    network = PclModel(build_backbone("r3d", width)).eval()  # its statistics are those of nobody's batch
    tf32, cudnn = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.flags
    torch.backends.cuda.matmul.allow_tf32 = False
    try:
        with cudnn(enabled=False, allow_tf32=False):
            exact = _features_and_gradients(placed(network, device, "contiguous"), clips, Precision("fp32", device))
    finally:
        torch.backends.cuda.matmul.allow_tf32 = tf32
    rough = _features_and_gradients(placed(network, device, layout), clips, precision)
    errors = [_apart(ours, true) for ours, true in zip(rough, exact, strict=True)]
    whole = _apart(torch.cat([g.flatten() for g in rough[1:]]), torch.cat([g.flatten() for g in exact[1:]]))
    return {"features": errors[0], "gradient": whole, "worst_gradient": max(errors[1:])}


def _features_and_gradients(network: PclModel, clips: torch.Tensor, precision: Precision) -> list[torch.Tensor]:
    network.zero_grad(set_to_none=True)
    with precision.autocast():
        features = network.features(clips)
    # Scaled by hand: what fp16 cannot hold is no matter of the convolutions.
    features.float().square().sum().backward()  # type: ignore[no-untyped-call]
    gradients = [weight.grad.float().clone() for weight in network.parameters() if weight.grad is not None]
    return [features.detach().float(), *gradients]


def _apart(ours: torch.Tensor, true: torch.Tensor) -> float:
    return float((ours - true).norm() / true.norm().clamp_min(1e-30))


def _gradient(bench: Bench, name: str, layout: Layout) -> dict[str, Value]:
    shape = ClipShape(min(2, bench.sizes.shape.batch_size), bench.sizes.shape.frames, bench.sizes.shape.side)
    return dict(gradient_errors(bench.sizes.width, shape, Precision(name, bench.device), layout))


def contexts(bench: Bench) -> dict[str, Value]:
    """On how many GPUs this process holds memory."""
    program = shutil.which("nvidia-smi")
    if bench.device.type != "cuda" or program is None:
        raise LeftOutError("there is no GPU, or no nvidia-smi to ask")
    query = [program, "--query-compute-apps=pid,gpu_uuid", "--format=csv,noheader"]
    told = subprocess.run(query, capture_output=True, text=True, timeout=20, check=True).stdout.splitlines()
    own = {line.partition(",")[2].strip() for line in told if line.partition(",")[0].strip() == str(os.getpid())}
    if not own:
        raise LeftOutError("nvidia-smi does not know this process: a container's numbers are not the host's")
    return {"gpus": float(torch.cuda.device_count()), "gpus_with_a_context": float(len(own))}
