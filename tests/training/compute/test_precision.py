import pytest
import torch

from pclkd.sharding.common.errors import InputError
from pclkd.training.compute.precision import Precision

CPU = torch.device("cpu")


def test_the_cpu_computes_in_float32_unless_told() -> None:
    precision = Precision("auto", CPU)
    assert precision.name == "fp32" and not precision.scaler.is_enabled()
    with precision.autocast():
        assert (torch.randn(4, 4) @ torch.randn(4, 4)).dtype == torch.float32


def test_bf16_autocasts_and_needs_no_scaler() -> None:
    precision = Precision("bf16", CPU)
    assert not precision.scaler.is_enabled()
    with precision.autocast():
        assert (torch.randn(4, 4) @ torch.randn(4, 4)).dtype == torch.bfloat16


def test_fp16_without_a_gpu_is_refused() -> None:
    with pytest.raises(InputError, match="needs a GPU"):
        Precision("fp16", CPU)
