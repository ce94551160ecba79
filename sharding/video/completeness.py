"""What of a video file is missing, by what its container tells about itself.

A file that a download cut off still opens and decodes up to the cut; only its own length fields tell. AVI, MP4/MOV and
Matroska/WebM all begin with chunks of known length. The chunks of an AVI also tell how many frames it stores, whatever
its header announces.
"""

import struct
from pathlib import Path
from typing import BinaryIO

__all__ = ["bytes_missing", "frames_stored"]

_MOST_CHUNKS = 1_000_000
_EBML = b"\x1a\x45\xdf\xa3"
_SEGMENT = b"\x18\x53\x80\x67"
_BOXES = frozenset({b"ftyp", b"free", b"mdat", b"moof", b"moov", b"pnot", b"skip", b"styp", b"udta", b"uuid", b"wide"})
"""Boxes that an MP4 or MOV file may begin with."""


def bytes_missing(path: Path) -> int:
    """Return how many bytes the file's outermost chunks reach past its end; 0 too where they do not tell."""
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(8)
        if head[:4] == b"RIFF":
            end = _end_of_riff(file, size)
        elif head[:4] == _EBML:
            end = _end_of_matroska(file)
        elif head[4:8] in _BOXES:
            end = _end_of_boxes(file, size)
        else:
            end = 0
    return max(0, end - size)


def _end_of_riff(file: BinaryIO, size: int) -> int:
    """A long AVI is a row of RIFF chunks, each of even length."""
    end = 0
    for _ in range(_MOST_CHUNKS):
        file.seek(end)
        head = file.read(8)
        if len(head) < 8 or head[:4] != b"RIFF":
            break
        end += 8 + int(struct.unpack("<I", head[4:])[0])
        if end >= size:
            break
        end += end % 2
    return end


def _end_of_boxes(file: BinaryIO, size: int) -> int:
    end = 0
    for _ in range(_MOST_CHUNKS):
        file.seek(end)
        head = file.read(16)
        if len(head) < 8:
            # A rest of one to seven bytes is the beginning of a box that was cut.
            return end + 8 if head else end
        length = int.from_bytes(head[:4], "big")
        if length == 1:
            length = int.from_bytes(head[8:16], "big")
        if length < 8:  # 0: up to the end of the file, whatever that is
            break
        end += length
        if end >= size:
            break
    return end


def _end_of_matroska(file: BinaryIO) -> int:
    """An EBML header and then one segment, whose length is unknown in live recordings."""
    file.seek(0)
    start = file.read(64)
    body = _length(start, 4)
    if body is None:
        return 0
    segment = body[0] + body[1]
    file.seek(segment)
    start = file.read(16)
    body = _length(start, 4) if start[:4] == _SEGMENT else None
    return segment + body[0] + body[1] if body else 0


def frames_stored(path: Path, stream: int) -> int | None:
    """Return how many chunks with data an AVI stores for a stream; None where a chunk is damaged or cut off."""
    size = path.stat().st_size
    names = {b"%02d%s" % (stream, kind) for kind in (b"dc", b"db")}
    stored = 0
    with path.open("rb") as file:
        at = 0
        while at + 8 <= size:
            file.seek(at)
            name, length, kind = struct.unpack("<4sI4s", file.read(12).ljust(12, b"\0"))
            if not all(0x20 <= letter < 0x7F for letter in name):
                return None
            if name == b"RIFF" or (name == b"LIST" and kind in {b"movi", b"rec "}):
                at += 12  # what is inside comes next
                continue
            if at + 8 + length > size:
                return None
            stored += bool(length) and name in names
            at += 8 + length + length % 2
    return stored


def _length(data: bytes, at: int) -> tuple[int, int] | None:
    """Read an EBML length; return where its data begins and how long it is, or None where that is unknown."""
    if len(data) <= at or not data[at]:
        return None
    octets = 9 - data[at].bit_length()
    field = int.from_bytes(data[at : at + octets], "big")
    ones = (1 << 7 * octets) - 1
    value = field & ones
    return None if value == ones or len(data) < at + octets else (at + octets, value)
