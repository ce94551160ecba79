"""Is this a JPEG, and of which size? Asked of every frame before a decoder sees it.

DALI (2.4) does not survive data that is no JPEG at all: its process may crash. So each frame's header is looked at. The
frames of a video come from one encoder and have the same header, byte by byte (only what follows it differs), so a
header that was parsed once is known again by its bytes, ten times as fast.
"""

import numpy as np
import simplejpeg  # type: ignore[import-untyped]
from numpy.typing import NDArray

__all__ = ["JpegHeaders"]

_MOST_KNOWN = 10_000  # headers of about 600 bytes each
_COMPONENTS = (1, 3)  # grey, or Y, Cb and Cr
_USUAL_LENGTH = 623  # baseline, three components, the standard tables


class JpegHeaders:
    """Parses headers and remembers them; safe to use from several threads.

    Attributes:
        length: bytes of a frame that `sizes` wants to see of it as `heads`.
    """

    def __init__(self) -> None:
        self.length = _USUAL_LENGTH
        self._known: dict[bytes, int] = {}

    def sizes(self, heads: list[bytes], jpegs: list[NDArray[np.uint8]]) -> NDArray[np.int64]:
        """[N] height * 65536 + width of each frame in pixels; 0 for what is no baseline JPEG.

        Args:
            heads: the first `length` bytes of each frame.
            jpegs: the whole frames.
        """
        known = self._known.get
        found = [known(head) for head in heads]
        for place, size in enumerate(found):
            if size is None:
                found[place] = self._parse(heads[place], jpegs[place])
        return np.array(found, np.int64)

    def _parse(self, head: bytes, jpeg: NDArray[np.uint8]) -> int:
        data = jpeg.tobytes()
        try:
            height, width, *_ = simplejpeg.decode_jpeg_header(data)
        except ValueError:
            return 0
        length, baseline = _header(data)
        if not baseline:
            return 0
        size = int(height) << 16 | int(width)
        if length == len(head):  # the whole header and nothing more
            if len(self._known) >= _MOST_KNOWN:
                self._known.clear()
            self._known[head] = size
        elif length:
            self.length = length
        return size


def _header(data: bytes) -> tuple[int, bool]:
    """Bytes up to the first entropy-coded one, 0 where the markers do not lead there; and whether one scan has it all.

    Such a frame makes as much work as it has bytes and pixels. Others may paint the same frame a thousand times over.
    """
    at, components = 2, 0
    while at + 10 <= len(data) and data[at] == 0xFF:
        end = at + 2 + int.from_bytes(data[at + 2 : at + 4], "big")
        if data[at + 1] == 0xC0:  # start of a baseline frame: length, bits, height, width, components
            components = data[at + 9]
        if data[at + 1] == 0xDA:  # start of scan: length, components
            return end, components in _COMPONENTS and data[at + 4] == components
        at = end
    return 0, False
