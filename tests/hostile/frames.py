"""Frames made hostile, with right checksums: JPEGs of other kinds, sizes and lengths than a packer writes."""

import io
from pathlib import Path
from typing import Any

import numpy as np
from cases import Target
from hypothesis import strategies as st
from material import HEIGHT, WIDTH, declaring, jpeg, make_shards, sign
from sets import use_set

__all__ = ["TARGETS"]

_KINDS = (
    "sound",
    "progressive",
    "cmyk",
    "grey",
    "444",
    "cut",
    "declares",
    "png",
    "empty",
    "junk",
    "flips",
    "scans",
    "twice",
)


@st.composite
def _jpeg_cases(draw: st.DrawFn) -> dict[str, Any]:
    return {
        "kind": draw(st.sampled_from(_KINDS)),
        "height": draw(st.sampled_from([1, HEIGHT, 65_500, 65_535, 0, 8192])),
        "width": draw(st.sampled_from([1, WIDTH, 65_500, 65_535, 0, 8192])),
        "cut": draw(st.integers(0, 700)),
        "flips": draw(st.lists(st.tuples(st.integers(0, 2000), st.integers(0, 255)), min_size=1, max_size=6)),
        "index": draw(st.booleans()),
    }


def hostile_jpeg(case: dict[str, Any]) -> bytes:
    """One frame."""
    from PIL import Image

    kind, data = case["kind"], jpeg()
    if kind in ("progressive", "scans"):
        data = jpeg(progressive=True)
        if kind == "scans":  # its last scan, over and over
            at = data.rindex(b"\xff\xda")
            data = data[:-2] + data[at:-2] * 300 + data[-2:]
    elif kind in ("cmyk", "grey"):
        data = jpeg(mode="CMYK" if kind == "cmyk" else "L", subsampling=-1)
    elif kind == "444":
        data = jpeg(subsampling="4:4:4")
    elif kind == "cut":
        data = data[: case["cut"]]
    elif kind == "declares":
        data = declaring(data, case["height"], case["width"])
    elif kind == "png":
        buffer = io.BytesIO()
        Image.new("RGB", (WIDTH, HEIGHT)).save(buffer, "PNG")
        data = buffer.getvalue()
    elif kind in ("empty", "junk"):
        data = b"" if kind == "empty" else b"\xff" * 300
    elif kind == "flips":
        changed = bytearray(data)
        for place, value in case["flips"]:
            changed[place % len(changed)] = value
        data = bytes(changed)
    elif kind == "twice":
        data += data
    return data


def jpeg_set(case: dict[str, Any], folder: Path) -> Path:
    """A set whose first video has such frames, with right checksums, and with its size in the index where asked."""
    data = hostile_jpeg(case)
    root = make_shards(folder / "set", lambda video, frame, sound: data if video == 0 else sound)
    if case["index"]:
        for name in ("height", "width"):
            file = root / "index" / f"sample_{name}.npy"
            column = np.load(file)
            column[0] = case[name]
            np.save(file, column)
        sign(root)
    return root


def _check_jpeg(case: dict[str, Any], folder: Path) -> None:
    use_set(jpeg_set(case, folder), folder / "out")


TARGETS = (Target("jpegs", _jpeg_cases(), _check_jpeg, 50),)
