"""Files by URL: a local path, or what fsspec reaches (`s3://`, `gs://`, `memory://`).

A file appears under its name only when it is whole. On a local file system that takes `.part`, sync and rename; an
object store shows an object only when its upload is complete, so a finished local file is put there in one go.
"""

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from pclkd.sharding.common import files as atomic
from pclkd.sharding.common.errors import InputError
from pclkd.sharding.common.store_errors import told

__all__ = [
    "about",
    "cache_folder",
    "exists",
    "fetch",
    "filesystem",
    "find",
    "is_remote",
    "join",
    "listing",
    "local_copy",
    "local_path",
    "modified",
    "put",
    "read_bytes",
    "read_range",
    "remove",
    "sizes",
    "write_bytes",
]

_EXTRAS = {"s3": "s3", "s3a": "s3", "gs": "gcs", "gcs": "gcs"}
_LOCAL = ("file", "local")
# Stores whose objects cannot be seen before they are complete; elsewhere a put goes through a `.part` and a move.
_WHOLE_PUTS = frozenset({"s3", "s3a", "gs", "gcs", "abfs", "az", "memory"})


def is_remote(url: str | Path) -> bool:
    """Tell whether `url` names something that only fsspec reaches; a path and `file://` are local."""
    scheme, mark, _ = str(url).partition("://")
    return bool(mark) and scheme not in _LOCAL


def local_path(url: str | Path) -> Path:
    """Return the path of a local URL (`file:///data` or a plain path)."""
    scheme, mark, rest = str(url).partition("://")
    return Path(rest) if mark and scheme in _LOCAL else Path(url)


def join(root: str | Path, *names: str) -> str:
    """Return the URL of what lies below `root`; plain paths stay plain paths."""
    if is_remote(root):
        return "/".join((str(root).rstrip("/"), *names))
    return str(local_path(root).joinpath(*names))


def filesystem(url: str | Path) -> tuple[Any, str]:
    """Return the fsspec file system of a URL and the path in it.

    Endpoint and credentials come from the environment (`AWS_ENDPOINT_URL`, `AWS_PROFILE`, ...) or fsspec's
    configuration; listings are not cached, so that other machines' files are seen.

    Raises:
        InputError: an unknown scheme, or the package for it is not installed.
    """
    import fsspec  # type: ignore[import-untyped]

    scheme = str(url).partition("://")[0]
    try:
        fs, path = fsspec.core.url_to_fs(str(url), use_listings_cache=False)
    except ImportError as error:
        extra = _EXTRAS.get(scheme)
        remedy = f"run: pip install 'pclkd[{extra}]'" if extra else f"install what it asks for ({error})"
        raise InputError(f"{url} needs a package that is not installed", remedy=remedy) from None
    except ValueError as error:
        raise InputError(f"{url} cannot be opened ({error})", remedy="use a path or an s3:// or gs:// URL") from None
    return fs, str(path)


def cache_folder() -> Path:
    """Return where this machine keeps copies of what lies behind URLs: `$PCLKD_CACHE`, else `~/.cache/pclkd`.

    Raises:
        InputError: this user has no home.
    """
    folder = os.environ.get("PCLKD_CACHE") or "~/.cache/pclkd"
    try:
        return Path(folder).expanduser()
    except RuntimeError as error:
        raise InputError(
            f"no cache folder {folder} ({error})", remedy="set PCLKD_CACHE to a folder without ~"
        ) from None


def exists(url: str | Path) -> bool:
    """Tell whether there is such a file or folder."""
    if not is_remote(url):
        return local_path(url).exists()
    with told(url):
        fs, path = filesystem(url)
        return bool(fs.exists(path))


def sizes(root: str | Path) -> dict[str, int]:
    """Return the length in bytes of each file directly in a folder, by name; empty when there is no such folder."""
    if not is_remote(root):
        found = {}
        with suppress(FileNotFoundError, NotADirectoryError), os.scandir(local_path(root)) as entries:
            for entry in entries:
                with suppress(FileNotFoundError):  # gone since it was listed
                    if entry.is_file():
                        found[entry.name] = entry.stat().st_size
        return found
    return {name: int(about["size"]) for name, about in listing(str(root)).items()}


def modified(url: str | Path) -> float:
    """Return when a file was last written, in seconds by the clock of the place where it lies.

    Raises:
        FileNotFoundError: there is none.
        InputError: the store cannot be reached or refuses, or tells no times.
    """
    if not is_remote(url):
        return local_path(url).stat().st_mtime
    with told(url):
        fs, path = filesystem(url)
        try:
            return float(fs.modified(path).timestamp())
        except NotImplementedError:
            raise InputError(
                f"{url}: its store does not tell when a file was written", remedy="use a folder, s3:// or gs://"
            ) from None


def listing(root: str) -> dict[str, dict[str, Any]]:
    """Return what a store tells of each file directly in a remote folder, by name; empty when there is none.

    Raises:
        InputError: the store cannot be reached or refuses.
    """
    with told(root):
        fs, path = filesystem(root)
        try:
            found = fs.ls(path, detail=True)
        except FileNotFoundError:
            return {}
        return {str(entry["name"]).rpartition("/")[2]: entry for entry in found if entry["type"] == "file"}


def about(url: str) -> dict[str, Any]:
    """Return what a store tells of one file. Raises as `read_bytes`."""
    with told(url):
        fs, path = filesystem(url)
        return dict(fs.info(path))


def find(root: str) -> list[str]:
    """Return the names of all files below a remote folder (`Class/file.avi`), sorted; empty where there is none.

    Raises:
        InputError: the store cannot be reached or refuses.
    """
    with told(root):
        fs, path = filesystem(root)
        if not path.strip("/"):
            raise InputError(f"{root} names no bucket", remedy="write it as s3://BUCKET/FOLDER")
        top = path.rstrip("/") + "/"
        try:
            names = fs.find(path)
        except FileNotFoundError:  # no such bucket
            return []
        return sorted(name.removeprefix(top) for name in names if name.startswith(top) and name != top)


def read_bytes(url: str | Path) -> bytes:
    """Read a whole file.

    Raises:
        FileNotFoundError: there is none.
        InputError: the store cannot be reached or refuses.
    """
    if not is_remote(url):
        return atomic.no_device(local_path(url)).read_bytes()
    with told(url):
        fs, path = filesystem(url)
        return bytes(fs.cat_file(path))


def read_range(url: str | Path, start: int, length: int) -> bytes:
    """Read `length` bytes from `start`; fewer only where the file ends. Raises as `read_bytes`."""
    if start < 0 or length <= 0:
        return b""
    if is_remote(url):
        with told(url):
            fs, path = filesystem(url)
            return bytes(fs.cat_file(path, start=start, end=start + length))
    with atomic.no_device(local_path(url)).open("rb") as file:
        left = os.fstat(file.fileno()).st_size - start  # a read sets memory aside for all that it is asked for
        file.seek(min(start, start + left))
        return file.read(max(0, min(length, left)))


def write_bytes(url: str | Path, data: bytes) -> None:
    """Write a file, whole or not at all; local folders must exist.

    Raises:
        InputError: no such bucket, no credentials, or the store cannot be reached.
    """
    if not is_remote(url):
        atomic.write_bytes(local_path(url), data)
        return
    with atomic.told_in(tempfile.gettempdir()), tempfile.NamedTemporaryFile() as file:
        file.write(data)
        file.flush()
        put(Path(file.name), url)


def put(file: Path, url: str | Path) -> None:
    """Copy a finished local file to a remote URL, where it appears only when it is whole. Raises as `write_bytes`."""
    with told(url):
        fs, path = filesystem(url)
        try:
            if str(url).partition("://")[0] in _WHOLE_PUTS:
                fs.put_file(str(file), path)
            else:
                fs.makedirs(path.rpartition("/")[0], exist_ok=True)
                fs.put_file(str(file), f"{path}.part")
                fs.mv(f"{path}.part", path)
        except FileNotFoundError as error:
            raise InputError(f"{url} cannot be written ({error})", remedy="make the bucket first") from error


def fetch(url: str | Path, target: Path, tick: Callable[[], None] = lambda: None) -> None:
    """Copy a file to the local path `target`, calling `tick` as it goes on; an interrupted copy leaves none.

    The files of a folder, whose URL ends in "/", go into a folder `target`. Raises as `read_bytes`.
    """
    if str(url).endswith("/"):
        target.mkdir()
        for name in listing(str(url)):
            fetch(f"{url}{name}", target / name, tick)
        return
    handle, name = tempfile.mkstemp(prefix=".fetch-", dir=target.parent)
    os.close(handle)
    try:
        with atomic.told_in(target.parent), told(url):
            fs, path = filesystem(url)
            fs.get_file(path, name, callback=_ticking(tick))
        Path(name).replace(target)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def _ticking(tick: Callable[[], None]) -> Any:
    from fsspec.callbacks import Callback  # type: ignore[import-untyped]

    class Ticking(Callback):  # type: ignore[misc]
        def call(self, *_: Any, **__: Any) -> None:
            tick()

    return Ticking()


@contextmanager
def local_copy(url: str | Path, folder: Path | None = None) -> Iterator[Path]:
    """Give a local path to read a file from: itself, or a copy in `folder` that is removed afterwards.

    Raises as `read_bytes`.
    """
    if not is_remote(url):
        yield atomic.no_device(local_path(url))
        return
    with tempfile.TemporaryDirectory(prefix=".pclkd-", dir=folder) as own:
        target = Path(own) / str(url).rstrip("/").rpartition("/")[2]
        fetch(url, target)
        yield target


def remove(url: str | Path) -> None:
    """Remove a file; none being there is fine."""
    if not is_remote(url):
        local_path(url).unlink(missing_ok=True)
        return
    with told(url):
        fs, path = filesystem(url)
        try:
            fs.rm_file(path)
        except FileNotFoundError:
            return
