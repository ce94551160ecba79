"""DALI graphs that only benchmarks need: its own webdataset reader, and decoding without anything behind it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from nvidia.dali import fn, pipeline_def, types

from pclkd.pipeline.pixels.dali import one_batch

__all__ = ["StreamReader", "WindowDecoder"]


class StreamReader:
    """DALI's `fn.readers.webdataset`: whole `.mjpeg` entries, tar after tar, round and round.

    Args:
        shards: the tars.
        lists: the wds2idx index of each.
        batch_size: entries a batch.
        threads: CPU threads.
    """

    def __init__(self, shards: Sequence[str], lists: Sequence[Path], batch_size: int, threads: int) -> None:
        self._pipeline: Any = pipeline_def(
            batch_size=batch_size, num_threads=threads, device_id=None, exec_dynamic=True
        )(_streams)(list(shards), [str(path) for path in lists])
        self._pipeline.build()

    def next(self) -> list[NDArray[np.uint8]]:
        """The next batch of entries, bytes each."""
        (streams,) = self._pipeline.run()
        return [np.asarray(stream) for stream in streams]


class WindowDecoder:
    """Decodes a window of each JPEG, and nothing else.

    Args:
        frames: JPEGs a batch.
        side: height and width of the windows, in pixels.
        decode: "mixed" is nvJPEG on the GPU.
        threads: CPU threads.
    """

    def __init__(self, frames: int, side: int, decode: Literal["cpu", "mixed"], threads: int) -> None:
        self._pipeline: Any = pipeline_def(
            batch_size=frames,
            num_threads=threads,
            device_id=0 if decode == "mixed" else None,
            prefetch_queue_depth=1,
            exec_dynamic=True,
        )(_windows)(side, decode)
        self._pipeline.build()

    def decode(self, jpegs: Sequence[NDArray[np.uint8]], anchors: NDArray[np.int32]) -> None:
        """Decode windows whose upper left corners are at `anchors` [frames, 2]; the pixels are dropped."""
        self._pipeline.feed_input("jpeg", one_batch(jpegs))
        self._pipeline.feed_input("anchor", anchors)
        self._pipeline.run()


def _streams(shards: list[str], lists: list[str]) -> Any:
    return fn.readers.webdataset(paths=shards, index_paths=lists, ext=["mjpeg"], missing_component_behavior="error")


def _windows(side: int, decode: str) -> Any:
    return fn.decoders.image_slice(
        fn.external_source(name="jpeg", dtype=types.UINT8, ndim=1, batch=True),
        fn.external_source(name="anchor", dtype=types.INT32, ndim=1, batch=True),
        [side, side],
        axis_names="HW",
        device=decode,
        output_type=types.RGB,
        jpeg_fancy_upsampling=True,  # as the loader decodes
    )
