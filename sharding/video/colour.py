"""What the numbers of a frame mean: matrix and range, as its tags say, or as players take untagged video."""

import av

__all__ = ["colour_of"]

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
