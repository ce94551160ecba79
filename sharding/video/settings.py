"""How large the frames of a video are stored."""

from fractions import Fraction

from pclkd.sharding.shards.manifest import PackSettings

__all__ = ["stored_size"]


def stored_size(height: int, width: int, pixel_aspect: Fraction, settings: PackSettings) -> tuple[int, int]:
    """Return (height, width) in pixels at which to store frames that are shown as `height` x `width`.

    With a short side, the shorter side gets that many pixels and the other keeps the aspect, rounded half up. With
    chroma of half the size both are made even, upwards for the short side and to the nearest for the long one.

    Args:
        height: of the upright frame, pixels.
        width: likewise.
        pixel_aspect: width of a pixel over its height; 1 for square pixels.
        settings: exact size or short side, and the chroma sampling.
    """
    if not settings.short_side:
        return settings.height, settings.width
    aspect = width * pixel_aspect / height
    grid = 2 if settings.chroma == "4:2:0" else 1
    short = -(-settings.short_side // grid) * grid
    long = max(short, grid * int(short * max(aspect, 1 / aspect) / grid + Fraction(1, 2)))
    return (short, long) if aspect >= 1 else (long, short)
