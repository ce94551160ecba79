import pytest
import torch

from pclkd.benchmarks.steps.matrix_limit import MatrixLimits, matrix_product
from pclkd.training.compute.precision import Precision


@pytest.mark.parametrize("name", ["fp32", "bf16"])
def test_a_product_counts_two_operations_for_each_of_side_cubed(name: str) -> None:
    """torch's own counter on the same product."""
    product = matrix_product(Precision(name, torch.device("cpu")))
    square = torch.zeros(product.side, product.side)
    with torch.utils.flop_counter.FlopCounterMode(display=False) as counter:
        torch.mm(square, square)
    assert product.work() * 1e12 == pytest.approx(counter.get_total_flops(), rel=1e-12)


def test_the_limit_is_what_the_operations_take_at_the_rate_of_the_product() -> None:
    cpu = torch.device("cpu")
    limits = MatrixLimits(batch_size=8)
    limits.add("pcl", Precision("fp32", cpu), 0.5)
    limits.add("pcl_kd", Precision("fp32", cpu), 1.0)
    limits.add("fused", Precision("fp32", cpu), 1.0)
    limits.add("half", Precision("bf16", cpu), 1.0)
    assert len(limits.work()) == 2  # one product for each precision, however many cases
    fp32, bf16 = limits.work()
    assert limits.bounds == {
        "pcl": ["matrix_limit"],
        "pcl_kd": ["matrix_limit_pcl_kd"],
        "fused": ["matrix_limit_pcl_kd"],
        "half": ["matrix_limit_half"],
    }
    rates = {"pcl": [3.0, 4.0], "pcl_kd": [2.0, 2.0], fp32: [0.25, 0.5], bf16: [1.0, 2.0]}
    # 8 samples take 0.5 TFLOP, so 0.25 TFLOP/s make 4 samples a second.
    assert limits.limits(rates) == {
        "pcl": [3.0, 4.0],
        "pcl_kd": [2.0, 2.0],
        "matrix_limit": [4.0, 8.0],
        "matrix_limit_pcl_kd": [2.0, 4.0],
        "matrix_limit_half": [8.0, 16.0],
    }
    assert limits.tflop["matrix_limit_half"] == limits.tflop["half"] == 1.0
