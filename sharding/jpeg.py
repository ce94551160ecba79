"""Frames as baseline JPEG, always with the same encoder settings, so that the same frame gives the same bytes."""

import io

import numpy as np
import numpy.typing as npt
from PIL import Image

__all__ = ["CHROMA", "encode_jpeg"]

CHROMA = "4:2:0"


def encode_jpeg(frame: npt.NDArray[np.uint8], quality: int) -> bytes:
    """Encode one RGB frame, uint8 [height, width, 3].

    Baseline with the standard Huffman tables: hardware decoders take nothing else, and tables fitted to each frame
    would save little.
    """
    buffer = io.BytesIO()
    Image.fromarray(frame).save(buffer, "JPEG", quality=quality, subsampling=CHROMA, optimize=False, progressive=False)
    return buffer.getvalue()
