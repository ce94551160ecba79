"""What packing is compared with: the loop that people write, and each stage of packing by itself.

Every case takes paths and returns the number of frames that it decoded; all run in one thread.
"""

import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt
import simplejpeg  # type: ignore[import-untyped]
from av.filter import Graph
from PIL import Image

from pclkd.sharding.video.decode import open_container
from pclkd.sharding.video.frames import open_planes
from pclkd.sharding.video.scale import FLAGS
from pclkd.sharding.video.settings import PackSettings

__all__ = ["ReadyFrames", "decode_only", "decode_scale", "plain_frames", "plain_loop"]

_FORMATS = {"4:2:0": "yuv420p", "4:4:4": "yuv444p"}


def plain_frames(path: Path, settings: PackSettings) -> Iterator[bytes]:
    """What people write: PyAV to a Pillow picture, Pillow's resize, Pillow's JPEG encoder."""
    size = (settings.width, settings.height)
    with _opened(path) as (container, stream):
        for frame in container.decode(stream):
            picture: Image.Image = frame.to_image(threads=1)  # type: ignore[no-untyped-call]
            picture = picture.resize(size, Image.Resampling.BICUBIC)
            buffer = io.BytesIO()
            picture.save(buffer, "JPEG", quality=settings.quality, subsampling=settings.chroma)
            yield buffer.getvalue()


def plain_loop(paths: Sequence[Path], settings: PackSettings) -> float:
    """The plain loop over all files."""
    return float(sum(1 for path in paths for _ in plain_frames(path, settings)))


def decode_only(paths: Sequence[Path]) -> float:
    """Decode, and look at nothing."""
    count = 0
    for path in paths:
        with _opened(path) as (container, stream):
            count += sum(1 for _ in container.decode(stream))
    return float(count)


def decode_scale(paths: Sequence[Path], settings: PackSettings) -> float:
    """Decode, and scale with the filter that packing uses, in its plainest form."""
    count = 0
    for path in paths:
        graph = None
        with _opened(path) as (container, stream):
            for frame in container.decode(stream):
                if graph is None:
                    graph = Graph()
                    graph.threads = 1
                    graph.link_nodes(
                        graph.add_buffer(
                            width=frame.width, height=frame.height, format=frame.format, time_base=Fraction(1, 1000)
                        ),
                        graph.add("scale", f"{settings.width}:{settings.height}:flags={FLAGS}:out_range=full"),
                        graph.add("format", _FORMATS[settings.chroma]),
                        graph.add("buffersink"),
                    ).configure()
                graph.vpush(frame)
                graph.vpull()
                count += 1
    return float(count)


class ReadyFrames:
    """Frames in memory as the encoder takes them.

    Args:
        paths: files to take them from, evenly.
        settings: of packing.
        most: frames to hold.
    """

    def __init__(self, paths: Sequence[Path], settings: PackSettings, most: int = 512) -> None:
        self._quality = settings.quality
        self._frames: list[tuple[npt.NDArray[np.uint8], ...]] = []
        share = -(-most // len(paths))
        for path in paths:
            with open_planes(path, settings) as video:
                ready = [tuple(plane.copy() for plane in planes) for planes in video.frames]
            self._frames += ready[:: max(1, len(ready) // share)][:share]

    def encode(self) -> float:
        """Encode them all, once."""
        for luma, blue, red in self._frames:
            simplejpeg.encode_jpeg_yuv_planes(luma, blue, red, quality=self._quality)
        return float(len(self._frames))


@contextmanager
def _opened(path: Path) -> "Iterator[tuple[av.container.InputContainer, av.VideoStream]]":
    with open_container(path) as container:
        stream = container.streams.video[0]
        stream.thread_type = "NONE"
        stream.thread_count = 1
        yield container, stream
