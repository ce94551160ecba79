"""How a video is turned for showing: phones store frames as the sensor lies and say so in a display matrix."""

import struct
from dataclasses import dataclass

import av
from av.buffer import Buffer

__all__ = ["UPRIGHT", "Orientation", "orientation_of"]


@dataclass(frozen=True)
class Orientation:
    """Swap rows and columns first, then mirror left-right, then top-bottom. The eight of them are all there are."""

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
