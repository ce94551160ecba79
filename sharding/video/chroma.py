"""Where chroma samples lie among the luma pixels, in the terms of FFmpeg's scale filter.

The filter counts in 1/256 of a luma pixel: 0 is the middle of the first luma column, 128 the place between two columns:

    luma columns      | 0 | 1 | 2 | 3 |
    JPEG, MPEG-1          x       x        128
    MPEG-2 and later    x       x            0   (rows: between two, 128)

It scales a plane by the ratio of the planes' widths. For an odd width the chroma plane reaches half a column too far,
so chroma would drift by a pixel from one edge to the other: half a pixel on average. Counting the samples half a pixel
further on an odd side brings them to their place in the middle, and the edges to within half a pixel.
"""

import av

__all__ = ["jpeg_places", "source_places"]

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
