"""The rate at which a device multiplies matrices, measured in the same rounds, as a limit of what is timed beside it.

samples/s(limit) = TFLOP/s(dense square matrix product) * samples a step / TFLOP a step

so a case's share of its limit is the model-FLOP utilisation (MFU) at the rate that the device really has, in the
precision and with the threads of the case. Source: Chowdhery et al., "PaLM", arXiv 2204.02311, appendix B, which
divides by the data sheet's peak instead.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import torch

from pclkd.benchmarks.measuring.clip_shape import synchronise
from pclkd.benchmarks.measuring.rounds import Work
from pclkd.training.compute.precision import Precision

__all__ = ["MatrixLimits", "MatrixProduct", "matrix_product"]

_TYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
# Large enough to fill the device, small enough for a turn.
_SIDES = {"cuda": 8192, "cpu": 1024}
_GPU_PRODUCTS = 20


@dataclass(frozen=True)
class MatrixProduct:
    """A product of two square matrices.

    Attributes:
        side: rows and columns.
        library: what multiplies.
        work: multiplies, several times between two waits for a GPU; counts TFLOP, a multiply-add as two operations.
    """

    side: int
    library: str
    work: Work


def matrix_product(precision: Precision) -> MatrixProduct:
    """The fastest dense matrix product at hand in the precision, on its device.

    On a CPU in float32 two libraries are tried: torch multiplies with MKL, which runs at half speed on some CPUs that
    are not Intel's, while convolutions are oneDNN's. On a GPU, float32 takes TF32 where cuDNN's convolutions do.
    """
    device, side = precision.device, _SIDES[precision.device.type]
    generator = torch.Generator(device).manual_seed(0)
    left, right = (
        torch.randn(side, side, device=device, generator=generator).to(_TYPES[precision.name]) for _ in range(2)
    )
    out = torch.empty_like(left)
    products: dict[str, Callable[[], object]] = {
        "cuBLAS" if device.type == "cuda" else "torch.mm": lambda: torch.mm(left, right, out=out)
    }
    has_onednn: bool = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    if device.type == "cpu" and precision.name == "fp32" and has_onednn:
        blocked = left.to_mkldnn()
        products["oneDNN"] = lambda: torch.ops.aten.mkldnn_linear(blocked, right)
    library = min(products, key=lambda name: _seconds(products[name])) if len(products) > 1 else next(iter(products))
    product, times = products[library], _GPU_PRODUCTS if device.type == "cuda" else 1

    def work() -> float:
        matmul = torch.backends.cuda.matmul
        before, matmul.allow_tf32 = matmul.allow_tf32, torch.backends.cudnn.allow_tf32
        with torch.no_grad():
            for _ in range(times):
                product()
            synchronise(device)
        matmul.allow_tf32 = before
        return times * 2 * side**3 / 1e12

    return MatrixProduct(side, library, work)


@dataclass
class MatrixLimits:
    """The limits of a benchmark's cases; cases of one precision and one number of operations share theirs.

    Attributes:
        batch_size: samples a step.
    """

    batch_size: int
    _products: dict[str, MatrixProduct] = field(default_factory=dict)
    _limits: dict[tuple[str, float], str] = field(default_factory=dict)
    _cases: dict[str, tuple[str, float]] = field(default_factory=dict)

    def add(self, case: str, precision: Precision, tflop_per_step: float) -> None:
        """Bound a case: the first one by "matrix_limit", others by that or one with their name behind it."""
        if precision.name not in self._products:
            self._products[precision.name] = matrix_product(precision)
        key = (precision.name, tflop_per_step)
        self._limits.setdefault(key, f"matrix_limit_{case}" if self._limits else "matrix_limit")
        self._cases[case] = key

    def work(self) -> dict[str, Work]:
        """What is to be timed beside the cases, TFLOP, by a name that `limits` knows."""
        return {_timed(precision): product.work for precision, product in self._products.items()}

    def limits(self, rates: Mapping[str, Sequence[float]]) -> dict[str, list[float]]:
        """The rates without the matrix products, TFLOP/s, and with the limits instead, samples/s."""
        products = {_timed(precision) for precision in self._products}
        told = {name: list(values) for name, values in rates.items() if name not in products}
        for (precision, tflop), name in self._limits.items():
            told[name] = [self.batch_size * rate / tflop for rate in rates[_timed(precision)]]
        return told

    @property
    def bounds(self) -> dict[str, list[str]]:
        """The limit of each case."""
        return {case: [self._limits[key]] for case, key in self._cases.items()}

    @property
    def tflop(self) -> dict[str, float]:
        """TFLOP of a step, by case and by limit."""
        return {case: key[1] for case, key in self._cases.items()} | {
            name: tflop for (_, tflop), name in self._limits.items()
        }

    @property
    def note(self) -> str:
        """What the limits are."""
        told = ", ".join(
            f"{precision} {product.side}x{product.side} by {product.library}"
            for precision, product in self._products.items()
        )
        return (
            "matrix_limit: the counted FLOPs at the rate of a dense matrix product in the same rounds "
            f"({told}), so 'of bound' is the MFU"
        )


def _timed(precision: str) -> str:
    return f"matrix_product/{precision}"


def _seconds(product: Callable[[], object]) -> float:
    """Of the quickest of a few."""
    best = float("inf")
    with torch.no_grad():
        for _ in range(4):
            began = time.perf_counter()
            product()
            best = min(best, time.perf_counter() - began)
    return best
