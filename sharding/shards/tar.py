"""USTAR archives whose bytes depend on nothing but their members, with the position of every payload."""

import tarfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import BinaryIO

__all__ = [
    "BLOCK",
    "LARGEST_MEMBER",
    "MemberTooLargeError",
    "TarEntry",
    "TarWriter",
    "member_header",
    "webdataset_index",
]

BLOCK = 512
LARGEST_MEMBER = 8**11 - 1  # bytes: eleven octal digits stand in a USTAR header
_RECORD = 20 * BLOCK


class MemberTooLargeError(Exception):
    """A member grew beyond what a USTAR header can tell."""


@dataclass(frozen=True)
class TarEntry:
    """One member: its name, the byte position of its payload, and the payload's length in bytes."""

    name: str
    offset: int
    size: int


class TarWriter:
    """Writes members one after another to a seekable file; `finish` writes the end mark.

    Owner, mode and time are fixed: packing the same input twice must give the same bytes.
    """

    def __init__(self, file: BinaryIO, position: int = 0) -> None:
        self.file = file
        self.position = position
        self.rewind(position)

    def rewind(self, position: int) -> None:
        """Drop everything from `position` on."""
        self.file.seek(position)
        self.file.truncate()
        self.position = position

    def add(self, name: str, payload: bytes) -> TarEntry:
        """Append one regular file."""
        with self.stream(name) as write:
            write(payload)
        return TarEntry(name, self.position - len(payload) - -len(payload) % BLOCK, len(payload))

    @contextmanager
    def stream(self, name: str) -> Iterator[Callable[[bytes], None]]:
        """Append one regular file whose length is known only at its end: give a function that takes its bytes.

        Its header is written last, over empty blocks. When the body raises, `rewind` to where the member began.

        Raises:
            MemberTooLargeError: more than 8 GiB - 1 byte.
        """
        start = self.position
        size = 0
        self.file.write(bytes(BLOCK))

        def write(data: bytes) -> None:
            nonlocal size
            if size + len(data) > LARGEST_MEMBER:
                raise MemberTooLargeError(name)
            size += len(data)
            self.file.write(data)

        yield write
        header = tarfile.TarInfo(name)
        header.size = size
        header.mode = 0o644
        self.file.write(bytes(-size % BLOCK))
        self.position = start + BLOCK + size + -size % BLOCK
        self.file.seek(start)
        self.file.write(header.tobuf(tarfile.USTAR_FORMAT))
        self.file.seek(self.position)

    def finish(self) -> int:
        """Write the end mark, two empty blocks filled up to a record; return the archive's length in bytes."""
        end = 2 * BLOCK
        end += -(self.position + end) % _RECORD
        self.file.write(bytes(end))
        self.position += end
        return self.position


def member_header(data: bytes) -> tarfile.TarInfo:
    """Return the header that `data` begins with: of a regular file that lies in `data` as a whole.

    Raises:
        tarfile.TarError: of nothing, of a link, a device or a folder, or of a file of another length.
    """
    header = tarfile.TarInfo.frombuf(data[:BLOCK], "utf-8", "surrogateescape")
    if header.type != tarfile.REGTYPE or not 0 <= header.size <= len(data) - BLOCK:
        raise tarfile.ReadError(f"{header.name!r} is no plain file, or not all of its {header.size} bytes are there")
    return header


def webdataset_index(entries: list[TarEntry]) -> str:
    """Return what DALI's wds2idx writes for an archive with these members.

    Format v1.2: a head line with the number of samples, then a line for each sample with the extension, offset, size
    and name of each of its files. Members that share the name up to the first dot form a sample.
    """
    samples: dict[str, list[str]] = {}
    for entry in entries:
        key, _, extension = entry.name.partition(".")
        samples.setdefault(key, []).append(f"{extension} {entry.offset} {entry.size} {entry.name}")
    return "\n".join([f"v1.2 {len(samples)}", *(" ".join(files) for files in samples.values()), ""])
