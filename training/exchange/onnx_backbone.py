"""A backbone in ONNX Runtime, on one CPU thread, with float or 8-bit numbers: what a small device would run."""

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Self

import numpy as np
import torch
from torch import nn

from pclkd.sharding.common.errors import InputError

__all__ = ["OnnxBackbone", "check_onnx", "quantise", "write_onnx"]

_INPUT, _OUTPUT = "clips", "features"


def check_onnx() -> None:
    """Refuse where the packages are missing.

    Raises:
        InputError: which, and how to get them.
    """
    try:
        import onnx  # noqa: F401 - the quantiser needs it
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401 - torch's exporter needs it
    except ImportError as error:
        raise InputError(f"ONNX needs {error.name}", remedy="pip install 'pclkd[onnx]'") from None


def write_onnx(backbone: nn.Module, clips: torch.Tensor, path: Path) -> None:
    """Write a backbone as ONNX, [N, 3, T, H, W] -> [N, F] with any N.

    Args:
        backbone: in eval mode.
        clips: [N, 3, T, H, W] as an example, N at least 2: one clip would let the exporter take N for a constant.
        path: of the file.
    """
    torch.onnx.export(
        backbone,
        (clips[:2],),
        str(path),
        input_names=[_INPUT],
        output_names=[_OUTPUT],
        dynamic_shapes=({0: torch.export.Dim("N", min=1)},),
        dynamo=True,
        external_data=False,
        verbose=False,
    )


def quantise(source: Path, path: Path, clips: torch.Tensor) -> None:
    """Write an ONNX backbone with 8-bit weights (a scale a channel) and activations (a scale a tensor).

    Args:
        source: what `write_onnx` wrote.
        path: of the new file.
        clips: [N, 3, T, H, W] real clips, whose activations decide the ranges.
    """
    from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self._left: Iterator[np.ndarray] = iter(clips.numpy())

        def get_next(self) -> dict[str, np.ndarray] | None:
            clip = next(self._left, None)
            return None if clip is None else {_INPUT: clip[None]}

    prepared = path.with_suffix(".prepared.onnx")
    root = logging.getLogger()
    before = root.level
    root.setLevel(logging.ERROR)  # it recommends what has just been done
    try:
        quant_pre_process(str(source), str(prepared), skip_symbolic_shape=True)
        quantize_static(
            str(prepared),
            str(path),
            Reader(),
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
        )
    finally:
        root.setLevel(before)
        prepared.unlink(missing_ok=True)


class OnnxBackbone:
    """An ONNX backbone that can be measured like a network.

    Args:
        path: of the file.
        threads: that a forward pass may use.
    """

    training = False

    def __init__(self, path: Path, threads: int = 1) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])

    def __call__(self, clips: np.ndarray) -> np.ndarray:
        """[N, 3, T, H, W] float32 -> [N, F]."""
        (features,) = self._session.run(None, {_INPUT: clips})
        return np.asarray(features)

    def features(self, clips: torch.Tensor) -> torch.Tensor:
        """[B, V, C, T, H, W] -> [B, V, F]."""
        found = self(np.ascontiguousarray(clips.flatten(0, 1).numpy()))
        return torch.from_numpy(found).reshape(*clips.shape[:2], -1)

    def train(self, mode: bool = True) -> Self:  # noqa: ARG002
        """It learns nothing."""
        return self
