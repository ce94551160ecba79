"""Pieces of remote shards on the local disk: bounded, and shared by all processes of a machine.

    CACHE/size                                bytes held, one number; its lock guards the sum
    CACHE/<2 hex>/<key>                       a block; its mtime tells when it was last used
    CACHE/.new-<random>                       a block on its way

A block appears under its name when it is whole. Whoever adds one does so under the lock, and first makes room by
removing the blocks that were unused the longest; who has just opened one of those reads on undisturbed.
"""

import contextlib
import fcntl
import hashlib
import os
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from pclkd.sharding.common.errors import InputError

__all__ = ["BlockCache"]

_KEEP_SHARE = 0.9  # what clearing up leaves, so that it is not done again at once
_FRESH_S = 60.0  # a block's mtime is renewed no oftener
_ABANDONED_S = 600.0  # a block on its way for so long belongs to a process that was killed


class BlockCache:
    """Keeps blocks of bytes by name, the most recently used ones.

    Args:
        folder: where; made if it is not there.
        limit: bytes to keep at most.

    Raises:
        InputError: the folder cannot be written.
    """

    def __init__(self, folder: Path, limit: int) -> None:
        self._folder, self._limit = folder, limit
        self._guard = threading.Lock()  # spares threads of one process the waiting on the file
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with self._locked():
                pass
        except OSError as error:
            raise InputError(
                f"the cache folder {folder} cannot be written ({error.strerror})",
                remedy="--set loader.cache_dir to a folder that can, or loader.cache_gib=0",
            ) from None

    def get(self, key: str) -> bytes | None:
        """A block's bytes; None where it is not held."""
        path = self._path(key)
        try:
            with path.open("rb") as file:
                data = file.read()
                if time.time() - os.fstat(file.fileno()).st_mtime > _FRESH_S:
                    os.utime(path)
        except OSError:  # not there, or cleared away at this moment
            return None
        return data

    def put(self, key: str, data: bytes) -> None:
        """Hold a block, in the place of the longest unused ones. A full or failing disk only means that it is not held.

        A block larger than the whole cache is not held either.
        """
        if len(data) > self._limit:
            return
        path = self._path(key)
        with contextlib.suppress(OSError):
            handle, name = tempfile.mkstemp(prefix=".new-", dir=self._folder)
            try:
                with os.fdopen(handle, "wb") as file:
                    file.write(data)
                path.parent.mkdir(exist_ok=True)
                with self._locked() as size_file:
                    held = self._read_size(size_file)
                    if held + len(data) > self._limit:
                        held = self._clear(max(0, int(self._limit * _KEEP_SHARE) - len(data)))
                    held -= path.stat().st_size if path.exists() else 0
                    Path(name).rename(path)
                    _write_size(size_file, held + len(data))
            except BaseException:
                Path(name).unlink(missing_ok=True)
                raise

    def drop(self, key: str) -> None:
        """Forget a block."""
        path = self._path(key)
        with contextlib.suppress(OSError), self._locked() as size_file:
            size = path.stat().st_size
            path.unlink()
            _write_size(size_file, self._read_size(size_file) - size)

    def _path(self, key: str) -> Path:
        name = hashlib.sha256(key.encode()).hexdigest()
        return self._folder / name[:2] / name

    @contextlib.contextmanager
    def _locked(self) -> Iterator[int]:
        """The open size file, locked for this thread alone."""
        with self._guard:
            file = os.open(self._folder / "size", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
            try:
                fcntl.flock(file, fcntl.LOCK_EX)
                yield file
            finally:
                os.close(file)  # which unlocks it

    def _read_size(self, file: int) -> int:
        """Bytes held; counted anew where the file tells nothing sound."""
        try:
            return max(0, int(os.pread(file, 32, 0)))
        except ValueError:
            return sum(size for _, size, _ in self._blocks())

    def _blocks(self) -> Iterator[tuple[float, int, str]]:
        """(time of last use, bytes, path) of every block held; abandoned ones on their way are removed."""
        with os.scandir(self._folder) as entries:
            for entry in entries:
                if entry.name.startswith(".new-"):
                    with contextlib.suppress(OSError):
                        if time.time() - entry.stat().st_mtime > _ABANDONED_S:
                            Path(entry.path).unlink()
                elif entry.is_dir():
                    with os.scandir(entry.path) as blocks:
                        for block in blocks:
                            status = block.stat()
                            yield status.st_mtime, status.st_size, block.path

    def _clear(self, target: int) -> int:
        """Remove the longest unused blocks until `target` bytes are left; the bytes left."""
        blocks = sorted(self._blocks())
        held = sum(size for _, size, _ in blocks)
        for _, size, path in blocks:
            if held <= target:
                break
            Path(path).unlink(missing_ok=True)
            held -= size
        return held


def _write_size(file: int, size: int) -> None:
    os.ftruncate(file, 0)
    os.pwrite(file, str(size).encode(), 0)
