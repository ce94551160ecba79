"""Decoded frames to the stored size, upright, in the numbers that JPEG wants: one pass, with no RGB on the way.

JPEG files hold YCbCr of BT.601 in the full range, chroma sampled at the centre of its pixels. FFmpeg's scale filter
goes there straight from what the decoder gives, whatever its matrix, range, depth and chroma sampling. The filter
graph is used, not PyAV's `reformat`, because only there the place of the chroma samples is honoured: half a pixel
otherwise. The filter is bicubic, widened for going down in size, without shortcuts that depend on the processor or
that darken (two levels, where the matrix changes). What stays: FFmpeg takes chroma from 16..240 to 0..255, JPEG's
zero is 128, so chroma comes out half a level low on average.
"""

from collections.abc import Sequence
from fractions import Fraction

import av
import numpy as np
import numpy.typing as npt
from av.filter import Graph
from av.video.plane import VideoPlane

from pclkd.sharding.video.chroma import jpeg_places, source_places
from pclkd.sharding.video.colour import colour_of
from pclkd.sharding.video.orientation import UPRIGHT, Orientation, orientation_of

__all__ = ["RGB", "YUV_420", "YUV_444", "Plane", "Scaler"]

Plane = npt.NDArray[np.uint8]

RGB = "rgb24"
YUV_420 = "yuv420p"
YUV_444 = "yuv444p"

_FLAGS = "bicubic+accurate_rnd+bitexact+full_chroma_int+full_chroma_inp"


class Scaler:
    """Turns and scales the frames of one video; frames that change in size or kind all end up alike.

    Args:
        height, width: pixels of the upright result.
        pixels: RGB, YUV_420 or YUV_444.
        codec: that the frames come from, by FFmpeg's name; it tells where their chroma lies.
    """

    def __init__(self, height: int, width: int, pixels: str, codec: str = "h264") -> None:
        self._height = height
        self._width = width
        self._pixels = pixels
        self._codec = codec
        self._kind: tuple[object, ...] = ()
        self._line: _Line | None = None

    def __call__(self, frame: av.VideoFrame) -> tuple[Plane, ...]:
        """Return the planes of the result, uint8: Y, Cb and Cr, or one [height, width, 3] for RGB.

        They may be views of rows that are longer.

        Raises:
            av.FFmpegError: FFmpeg cannot convert such frames.
        """
        kind = (frame.width, frame.height, frame.format.name, frame.colorspace, frame.color_range, frame.rotation)
        if self._line is None or kind != self._kind:
            self._line = _Line(frame, self._filters(frame, orientation_of(frame)))
            self._kind = kind
        channels = 3 if self._pixels == RGB else 1
        return tuple(_view(plane, channels) for plane in self._line.run(frame).planes)

    def _filters(self, frame: av.VideoFrame, turn: Orientation) -> Sequence[tuple[str, str]]:
        matrix, numbers = colour_of(frame)
        height, width = (self._width, self._height) if turn.transpose else (self._height, self._width)
        # Chroma of half the size lies the same in a turned frame only when the sides are even.
        resample = turn != UPRIGHT and self._pixels == YUV_420 and (height % 2 or width % 2)
        pixels = YUV_444 if resample else self._pixels
        places = source_places(frame, self._codec) + (jpeg_places(height, width) if pixels == YUV_420 else "")
        scale = (
            f"w={width}:h={height}:flags={_FLAGS}:in_color_matrix={matrix}:in_range={numbers}"
            f":out_color_matrix=bt601:out_range=full{places}"
        )
        steps = [("scale", scale), ("format", pixels), *turn.filters]
        if resample:
            halve = f"flags={_FLAGS}:in_range=full:out_range=full{jpeg_places(self._height, self._width)}"
            return [*steps, ("scale", halve), ("format", YUV_420)]
        # A flip only steps through the rows backwards; the last filter lays them out again.
        return steps if turn == UPRIGHT else [*steps, ("copy", "")]


class _Line:
    """A row of filters for frames like `frame`. The graph is kept: its filters crash once it is gone."""

    def __init__(self, frame: av.VideoFrame, filters: Sequence[tuple[str, str]]) -> None:
        self._graph = Graph()
        self._graph.threads = 1
        nodes = [
            # No filter here looks at time stamps.
            self._graph.add_buffer(
                width=frame.width, height=frame.height, format=frame.format, time_base=Fraction(1, 1000)
            ),
            *(self._graph.add(name, arguments or None) for name, arguments in filters),
            self._graph.add("buffersink"),
        ]
        self._graph.link_nodes(*nodes).configure()
        self._source, self._sink = nodes[0], nodes[-1]

    def run(self, frame: av.VideoFrame) -> av.VideoFrame:
        self._source.push(frame)
        result = self._sink.pull()
        if not isinstance(result, av.VideoFrame):
            raise TypeError(f"a filter gave {result!r}")
        return result


def _view(plane: VideoPlane, channels: int) -> Plane:
    """The pixels of a plane, whose rows may be longer than what is seen of them."""
    if channels > 1:
        shape, strides = (plane.height, plane.width, channels), (plane.line_size, channels, 1)
        return np.ndarray(shape, np.uint8, memoryview(plane), strides=strides)
    return np.ndarray((plane.height, plane.width), np.uint8, memoryview(plane), strides=(plane.line_size, 1))
