"""USTAR archives whose bytes depend on nothing but their members, with the position of every payload."""

import tarfile
from dataclasses import dataclass, field
from typing import Protocol

__all__ = ["BLOCK", "TarEntry", "TarWriter", "webdataset_index"]

BLOCK = 512
_RECORD = 20 * BLOCK


@dataclass(frozen=True)
class TarEntry:
    """One member: its name, the byte position of its payload, and the payload's length in bytes."""

    name: str
    offset: int
    size: int


class _Sink(Protocol):
    def write(self, data: bytes, /) -> int: ...


@dataclass
class TarWriter:
    """Writes members one after another to `file`; `finish` writes the end mark.

    Owner, mode and time are fixed: packing the same input twice must give the same bytes.
    """

    file: _Sink
    position: int = 0
    entries: list[TarEntry] = field(default_factory=list)

    def add(self, name: str, payload: bytes) -> TarEntry:
        """Append one regular file."""
        header = tarfile.TarInfo(name)
        header.size = len(payload)
        header.mode = 0o644
        block = header.tobuf(tarfile.USTAR_FORMAT)
        padding = -len(payload) % BLOCK
        self.file.write(block + payload + bytes(padding))
        entry = TarEntry(name, self.position + len(block), len(payload))
        self.position = entry.offset + len(payload) + padding
        self.entries.append(entry)
        return entry

    def finish(self) -> int:
        """Write the end mark, two empty blocks filled up to a record; return the archive's length in bytes."""
        end = 2 * BLOCK
        end += -(self.position + end) % _RECORD
        self.file.write(bytes(end))
        self.position += end
        return self.position


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
