"""Frames as baseline JPEG, always with the same encoder settings, so that the same frame gives the same bytes.

libjpeg-turbo takes the planes as they are: no conversion and no subsampling is left to it. It writes the standard
Huffman tables: hardware decoders take nothing else, and tables fitted to each frame would save little. Its fast DCT is
what simplejpeg has for planes: 0.15 dB less than the slow one at quality 90, the same bytes.
"""

from collections.abc import Sequence

import simplejpeg  # type: ignore[import-untyped]

from pclkd.sharding.video.scale import Plane

__all__ = ["encode_planes"]


def encode_planes(planes: Sequence[Plane], quality: int) -> bytes:
    """Encode one frame.

    Args:
        planes: Y, Cb and Cr in the full range, uint8; the sizes of Cb and Cr beside Y's choose the chroma sampling.
        quality: 1 to 95.
    """
    luma, blue, red = planes
    jpeg: bytes = simplejpeg.encode_jpeg_yuv_planes(luma, blue, red, quality=quality)
    return jpeg
