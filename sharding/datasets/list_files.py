"""Text that tells which videos belong where: lines and tables, from disk or by URL, each line with its place."""

import csv
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pclkd.sharding.common import storage
from pclkd.sharding.common.errors import InputError
from pclkd.sharding.common.files import parse_json

__all__ = ["is_list_file", "list_names", "numbered_lines", "read_header", "read_json", "table_rows"]

_TEXT = "save it as UTF-8 text"
# Tables may hold file names whose bytes are no UTF-8; `surrogateescape` keeps them as Python lists them.
_HEADER_BYTES = 64 * 1024


def is_list_file(url: str | Path) -> bool:
    """Tell whether `url` is named like a table."""
    return str(url).lower().endswith(".csv")


def list_names(folder: str | Path, remedy: str) -> list[str]:
    """Return the names of the files directly in a folder of lists, sorted, without hidden ones.

    Raises:
        InputError: no such folder; its text ends in `remedy`.
    """
    if not storage.is_remote(folder) and not storage.local_path(folder).is_dir():
        raise InputError(f"no folder of split lists at {folder}", remedy=remedy)
    names = sorted(name for name in storage.sizes(folder) if name and not name.startswith("."))
    if storage.is_remote(folder) and not names:
        raise InputError(f"no split lists at {folder}", remedy=remedy)
    return names


def numbered_lines(url: str, remedy: str) -> Iterator[tuple[str, str]]:
    """Yield (place, text) for each line that is not blank.

    Raises:
        InputError: no such file, or no text.
    """
    for number, line in enumerate(_read_text(url, remedy).replace("\r", "\n").split("\n"), start=1):
        if line.strip():
            yield f"{url}:{number}", line.strip()


def table_rows(url: str, remedy: str) -> Iterator[tuple[str, dict[str, str]]]:
    """Yield (place, cells by column) for each row of a CSV file with a header; blank rows are passed over.

    Column names come in lower case without blanks around them, and so do cells, their case kept.

    Raises:
        InputError: no such file, no text, no table, or a row with another number of cells than the header.
    """
    reader = csv.reader(io.StringIO(_read_text(url, remedy), newline=""), strict=True)
    header: list[str] | None = None
    while True:
        first = reader.line_num + 1
        try:
            cells = [cell.strip() for cell in next(reader)]
        except StopIteration:
            return
        except csv.Error as error:
            raise InputError(
                f"{url}:{first}: not a row of a table ({error})", remedy="mend the quotes of the line"
            ) from None
        if not any(cells):
            continue
        if header is None:
            header = _checked_header(url, first, cells)
        elif len(cells) != len(header):
            raise InputError(
                f"{url}:{first}: {','.join(cells)!r} has {len(cells)} cells, the header has {len(header)}",
                remedy="mend the line; a cell with a comma stands in double quotes",
            )
        else:
            yield f"{url}:{first}", dict(zip(header, cells, strict=True))


def read_header(url: str) -> tuple[str, ...]:
    """Return the column names of a CSV file in lower case; of a file that is none, whatever its first line gives.

    Raises:
        InputError: no such file.
    """
    try:
        head = storage.read_range(url, 0, _HEADER_BYTES)
    except (FileNotFoundError, IsADirectoryError):
        raise InputError(f"no file {url}", remedy="give the table of the videos, or the folder of the lists") from None
    lines = head.decode("utf-8-sig", "replace").splitlines()
    first = next((line for line in lines if line.strip(", \t")), "")
    return tuple(cell.strip().strip('"').strip().lower() for cell in first.split(","))


def read_json(url: str, remedy: str) -> Any:
    """Return what a JSON file holds.

    Raises:
        InputError: no such file, or no JSON.
    """
    try:
        return parse_json(_read_text(url, remedy))
    except ValueError as error:
        raise InputError(f"{url} is no JSON ({error})", remedy=remedy) from None


def _checked_header(url: str, number: int, cells: list[str]) -> list[str]:
    names = [cell.lower() for cell in cells]
    for name in names:
        if name and names.count(name) > 1:
            raise InputError(f"{url}:{number}: the column {name!r} stands there twice", remedy="remove one of the two")
    return names


def _read_text(url: str, remedy: str) -> str:
    try:
        data = storage.read_bytes(url)
    except FileNotFoundError:
        raise InputError(f"no split list {url}", remedy=remedy) from None
    except IsADirectoryError as error:
        raise InputError(f"{url} is not a text file ({error.strerror})", remedy=remedy) from None
    if b"\0" in data:
        raise InputError(f"{url} is not a text file (it holds zero bytes)", remedy=_TEXT)
    return data.decode("utf-8", "surrogateescape").removeprefix("\ufeff").replace("\r\n", "\n")
