"""Peers that decode the original videos, resized to the size of the stored frames: PyAV, decord, torchcodec.

Each reads the window that holds a sample's clips with its library's own random access, on one thread, because the
workers of the DataLoader are processes, one a core. decord and torchcodec resize while they decode.
"""

import importlib
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Dataset

from pclkd.benchmarks.peers.clips import ClipMaker, Frames, PeerWork, Sample
from pclkd.sharding.video.decode import open_container

__all__ = ["VIDEO_READERS", "VideoClips", "missing_library", "read_decord", "read_pyav", "read_torchcodec"]

if TYPE_CHECKING:
    import av

WindowReader = Callable[[str, Sequence[int], tuple[int, int]], Frames]
"""Decodes the frames with these numbers, ascending, of a video, resized to (height, width) in pixels."""


class VideoClips(Dataset[Sample]):
    """(sample id, clips [V, C, T, H, W]) out of the original videos.

    Args:
        work: what to do with a sample.
        samples: [n] sample ids.
        videos: path of each sample's video, by key.
        reader: a name out of VIDEO_READERS.
    """

    def __init__(self, work: PeerWork, samples: NDArray[np.int64], videos: Mapping[str, str], reader: str) -> None:
        self._work, self._samples, self._videos, self._reader = work, samples, videos, reader
        self._maker: ClipMaker | None = None

    def __len__(self) -> int:
        return len(self._samples)

    def __getitem__(self, position: int) -> Sample:
        """Decode one sample."""
        if self._maker is None:
            self._maker = ClipMaker(self._work)
        maker, sample = self._maker, int(self._samples[position])
        path = self._videos[maker.index.key(sample)]
        frames = VIDEO_READERS[self._reader](path, maker.wanted(sample), maker.size(sample))
        return sample, maker.clips(sample, frames)


def read_pyav(path: str, wanted: Sequence[int], size: tuple[int, int]) -> Frames:
    """PyAV: start at the last key frame before the window, count in decode order from there, stop after the window."""
    found: dict[int, NDArray[np.uint8]] = {}
    rest = set(wanted)
    with open_container(path) as container:
        stream = container.streams.video[0]
        stream.thread_type = "NONE"
        number = _seek(container, stream, wanted[0])
        for frame in container.decode(stream):
            if number in rest:
                small = frame.reformat(width=size[1], height=size[0], format="rgb24", interpolation="BICUBIC")
                found[number] = small.to_ndarray().astype(np.uint8, copy=False)
                rest.discard(number)
                if not rest:
                    break
            number += 1
    return found


def read_decord(path: str, wanted: Sequence[int], size: tuple[int, int]) -> Frames:
    """Decord's VideoReader and its get_batch."""
    decord: Any = importlib.import_module("decord")
    reader = decord.VideoReader(path, width=size[1], height=size[0], num_threads=1)
    return dict(zip(wanted, reader.get_batch(list(wanted)).asnumpy(), strict=True))


def read_torchcodec(path: str, wanted: Sequence[int], size: tuple[int, int], *, exact: bool) -> Frames:
    """Torchcodec's VideoDecoder; `exact` scans the file first, else places follow from the frame rate."""
    torchcodec: Any = importlib.import_module("torchcodec.decoders")
    transforms: Any = importlib.import_module("torchcodec.transforms")
    decoder = torchcodec.VideoDecoder(
        path,
        dimension_order="NHWC",
        num_ffmpeg_threads=1,
        seek_mode="exact" if exact else "approximate",
        transforms=[transforms.Resize(size=size)],
    )
    return dict(zip(wanted, decoder.get_frames_at(list(wanted)).data.numpy(), strict=True))


def _read_torchcodec_exact(path: str, wanted: Sequence[int], size: tuple[int, int]) -> Frames:
    return read_torchcodec(path, wanted, size, exact=True)


def _read_torchcodec_approximate(path: str, wanted: Sequence[int], size: tuple[int, int]) -> Frames:
    return read_torchcodec(path, wanted, size, exact=False)


VIDEO_READERS: Mapping[str, WindowReader] = {
    "torch_pyav": read_pyav,
    "torch_decord": read_decord,
    "torch_torchcodec_approximate": _read_torchcodec_approximate,
    "torch_torchcodec_exact": _read_torchcodec_exact,
}
"""By the names of their cases."""

_LIBRARIES = {
    "torch_decord": "decord",
    "torch_torchcodec_approximate": "torchcodec.transforms",
    "torch_torchcodec_exact": "torchcodec.transforms",
}


def missing_library(reader: str) -> str | None:
    """Why a reader out of VIDEO_READERS cannot be used here; None where it can."""
    library = _LIBRARIES.get(reader)
    if library is None:
        return None
    try:
        importlib.import_module(library)
    except ModuleNotFoundError:
        return f"{library.partition('.')[0]} is not installed: pip install 'pclkd[peers]'"
    except (ImportError, OSError, RuntimeError) as error:  # torchcodec without FFmpeg's libraries
        reason = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
        return f"{library.partition('.')[0]} cannot be loaded: {reason}"
    return None


def _seek(container: "av.container.InputContainer", stream: "av.VideoStream", frame: int) -> int:
    """Go to the last key frame at or before `frame`; the number of the frame that is decoded next."""
    rate, base = stream.average_rate, stream.time_base
    if frame == 0 or not rate or not base:
        return 0
    container.seek(int(frame / rate / base), stream=stream)
    packet = next(container.demux(stream), None)
    landed = None if packet is None or packet.dts is None or not packet.is_keyframe else round(packet.dts * base * rate)
    if landed is None or not 0 <= landed <= frame:
        landed = 0
    container.seek(int(landed / rate / base), stream=stream)
    return landed
