"""Decoded frames to the stored size, upright, in the numbers that JPEG wants: one pass, with no RGB on the way.

JPEG files hold YCbCr of BT.601 in the full range, chroma sampled at the centre of its pixels. FFmpeg's scale filter
goes there straight from what the decoder gives, whatever its matrix, range, depth and chroma sampling. The filter
graph is used, not PyAV's `reformat`, because only there the place of the chroma samples is honoured: half a pixel
otherwise. The filter is bicubic, widened for going down in size, without shortcuts that depend on the processor or
that darken (two levels, where the matrix changes). What stays: FFmpeg takes chroma from 16..240 to 0..255, JPEG's
zero is 128, so chroma comes out half a level low on average.
"""

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import av
import numpy as np
import numpy.typing as npt
from av.buffer import Buffer
from av.filter import Graph
from av.video.plane import VideoPlane

__all__ = [
    "FLAGS",
    "RGB",
    "UPRIGHT",
    "YUV_420",
    "YUV_444",
    "Orientation",
    "Plane",
    "Scaler",
    "colour_of",
    "jpeg_places",
    "orientation_of",
    "source_places",
]


# Where chroma samples lie, as the scale filter counts it: in 1/256 of a luma pixel, 0 is the middle of the first luma
# column, 128 the place between two columns.
#
#     luma columns      | 0 | 1 | 2 | 3 |
#     JPEG, MPEG-1          x       x        128
#     MPEG-2 and later    x       x            0   (rows: between two, 128)
#
# The filter scales a plane by the ratio of the planes' widths. For an odd width the chroma plane reaches half a column
# too far, so chroma would drift by a pixel from one edge to the other: half a pixel on average. Counting the samples
# half a pixel further on an odd side brings them to their place in the middle, and the edges to within half a pixel.
_BETWEEN = 128
_ODD = 128
# Formats of MPEG-1's time and JPEG; what came later has chroma in the left column unless it says so, which PyAV hides.
_MPEG_1 = frozenset({"flv", "h261", "h263", "mjpeg", "mpeg1video"})


def source_places(frame: av.VideoFrame, codec: str) -> str:
    """Return the scale filter's arguments for frames like `frame` that came from `codec`, by FFmpeg's name.

    Nothing for an axis on which chroma is not halved.
    """
    left = _BETWEEN if codec in _MPEG_1 else 0
    across = f":in_h_chr_pos={left + _ODD * (frame.width % 2)}" if frame.format.chroma_width(64) == 32 else ""
    down = f":in_v_chr_pos={_BETWEEN + _ODD * (frame.height % 2)}" if frame.format.chroma_height(64) == 32 else ""
    return across + down


def jpeg_places(height: int, width: int) -> str:
    """Return the scale filter's arguments for a result of this size, pixels, with halved chroma as JPEG places it."""
    return f":out_h_chr_pos={_BETWEEN + _ODD * (width % 2)}:out_v_chr_pos={_BETWEEN + _ODD * (height % 2)}"


# Numbers of H.273, as FFmpeg has them, and the names that its scale filter knows.
_MATRICES = {1: "bt709", 4: "fcc", 5: "bt601", 6: "bt601", 7: "smpte240m", 9: "bt2020", 10: "bt2020"}
_UNTAGGED = 2
_FULL = 2


def colour_of(frame: av.VideoFrame) -> tuple[str, str]:
    """Return (matrix, range) of a frame in the words of FFmpeg's scale filter.

    Untagged video is taken as mpv takes it: BT.709 if it is wider than 1279 or higher than 576 pixels, BT.601 else, in
    the limited range unless the pixel format says otherwise.
    """
    pixels = frame.format
    if pixels.is_rgb or len(pixels.components) < 3:
        return "auto", "auto"
    matrix = _MATRICES.get(frame.colorspace, "auto")
    if frame.colorspace == _UNTAGGED:
        matrix = "bt709" if frame.width >= 1280 or frame.height > 576 else "bt601"
    full = frame.color_range == _FULL or pixels.name.startswith("yuvj")
    return matrix, "full" if full else "limited"


@dataclass(frozen=True)
class Orientation:
    """How a video is turned for showing: phones store frames as the sensor lies and say so in a display matrix.

    Swap rows and columns first, then mirror left-right, then top-bottom. The eight of them are all there are.
    """

    transpose: bool
    mirror: bool
    flip: bool

    @property
    def filters(self) -> tuple[tuple[str, str], ...]:
        """FFmpeg's filters that do so, with their arguments."""
        steps = [(self.transpose, "transpose", "cclock_flip"), (self.mirror, "hflip", ""), (self.flip, "vflip", "")]
        return tuple((name, arguments) for wanted, name, arguments in steps if wanted)


UPRIGHT = Orientation(transpose=False, mirror=False, flip=False)
_TURNED_LEFT = (
    UPRIGHT,
    Orientation(transpose=True, mirror=False, flip=True),
    Orientation(transpose=False, mirror=True, flip=True),
    Orientation(transpose=True, mirror=True, flip=False),
)


def orientation_of(frame: av.VideoFrame) -> Orientation:
    """Return how to turn `frame`; an angle between right angles goes to the nearest one."""
    try:
        matrix = frame.side_data.get("DISPLAYMATRIX")
    except ValueError:
        # A frame with data of a kind that PyAV does not know (EXIF, in a camera's MJPEG) shows none of it. The angle
        # can be had, mirrors cannot.
        return _TURNED_LEFT[round(frame.rotation / 90) % 4]
    if not isinstance(matrix, Buffer):
        return UPRIGHT
    # Row vectors: x' = a x + c y, y' = b x + d y. Only signs and the larger diagonal matter for right angles.
    a, b, _, c, d = struct.unpack_from("=5i", bytes(matrix))
    if abs(a) + abs(d) >= abs(b) + abs(c):
        return Orientation(transpose=False, mirror=a < 0, flip=d < 0)
    return Orientation(transpose=True, mirror=c < 0, flip=b < 0)


Plane = npt.NDArray[np.uint8]

RGB = "rgb24"
YUV_420 = "yuv420p"
YUV_444 = "yuv444p"

FLAGS = "bicubic+accurate_rnd+bitexact+full_chroma_int+full_chroma_inp"


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
            f"w={width}:h={height}:flags={FLAGS}:in_color_matrix={matrix}:in_range={numbers}"
            f":out_color_matrix=bt601:out_range=full{places}"
        )
        steps = [("scale", scale), ("format", pixels), *turn.filters]
        if resample:
            halve = f"flags={FLAGS}:in_range=full:out_range=full{jpeg_places(self._height, self._width)}"
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
