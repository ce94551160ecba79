"""What a file is, by how it begins: its name may say anything."""

from pathlib import Path

from pclkd.sharding.common.containers import CONTAINERS, STREAMS

__all__ = ["fits", "formats_for", "kind_of"]

_BEGINNINGS = (
    (b"#EXTM3U", "is a playlist (M3U)"),
    (b"ffconcat version", "is a playlist (ffconcat)"),
    (b"[playlist]", "is a playlist (PLS)"),
    (b"version https://git-lfs", "is a Git LFS pointer: the video itself was not fetched"),
    (b"%PDF-", "is a PDF document"),
    (b"PK\x03\x04", "is a ZIP archive"),
    (b"PK\x05\x06", "is a ZIP archive"),
    (b"Rar!\x1a\x07", "is a RAR archive"),
    (b"7z\xbc\xaf\x27\x1c", "is a 7z archive"),
    (b"\x1f\x8b", "is a gzip file"),
    (b"\xfd7zXZ\0", "is an xz file"),
    (b"\x28\xb5\x2f\xfd", "is a Zstandard file"),
    (b"BZh", "is a bzip2 file"),
    (b"\xff\xd8\xff", "is a JPEG picture"),
    (b"\x89PNG\r\n", "is a PNG picture"),
    (b"ID3", "is an MP3 file"),
    (b"\xff\xfb", "is an MP3 file"),
    (b"fLaC", "is a FLAC file"),
    (b"\x93NUMPY", "is a NumPy array"),
    (b"\x89HDF\r\n", "is an HDF5 file"),
)
_MARKUP = (
    ((b"<!doctype html", b"<html"), "is an HTML page"),
    ((b"<mpd", b"<asx", b"<smil"), "is a playlist (XML)"),
    ((b"<?xml", b"<error>"), "is an XML document"),
)
_LOOKED_AT = 1024


def formats_for(path: Path) -> str:
    """Return the formats that a file may be of, in FFmpeg's names, separated by commas."""
    return ",".join([*CONTAINERS, *(name for name in STREAMS if fits(path, name))])


def fits(path: Path, format_name: str) -> bool:
    """Tell whether the suffix of a file is one for a format, by FFmpeg's name."""
    suffixes = (CONTAINERS | STREAMS).get(format_name.partition(",")[0], "")
    return path.suffix.lower()[1:] in suffixes.split()


def kind_of(path: Path) -> str:
    """Return what a file that holds no video is, in words that go on from its name; "" where it cannot be told."""
    try:
        with path.open("rb") as file:
            head = file.read(_LOOKED_AT)
    except OSError:
        return ""
    for beginning, told in _BEGINNINGS:
        if head.startswith(beginning):
            return told
    if head[:4] == b"RIFF" and head[8:12] in {b"WAVE", b"WEBP"}:
        return "is a WAV file" if head[8:12] == b"WAVE" else "is a WebP picture"
    if not head.strip(b"\0"):
        return "begins with zeros: the download never filled it" if head else ""
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    for marks, told in _MARKUP:
        if text.startswith(b"<") and any(mark in text for mark in marks):
            return told
    try:
        head[:-3].decode("utf-8")
    except UnicodeDecodeError:
        return ""
    if b"\0" in head:
        return ""
    return "is JSON or another text" if text.startswith((b"{", b"[")) else "is a text"
