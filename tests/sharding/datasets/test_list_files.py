from pathlib import Path

import fsspec
import pytest

from pclkd.sharding import InputError
from pclkd.sharding.datasets.list_files import list_names, numbered_lines, read_header, table_rows


def rows(path: Path, data: bytes) -> list[tuple[str, dict[str, str]]]:
    path.write_bytes(data)
    return list(table_rows(str(path), "mend it"))


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_lines_read_the_same_with_any_line_end(tmp_path: Path, end: str, mark: bytes) -> None:
    path = tmp_path / "list.txt"
    path.write_bytes(mark + end.join(["one", "", " two\t", "\x0bthree\u2028"]).encode())
    places = [f"{path}:1", f"{path}:3", f"{path}:4"]
    assert list(numbered_lines(str(path), "")) == list(zip(places, ["one", "two", "three"], strict=True))


def test_tables_as_programs_write_them(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    data = b'\xef\xbb\xbf Path , Label\r\n\r\n"a, b.avi", jump\r\n"line\nend.avi",run\r\n,\r\nlast.avi,x\r\n'
    assert rows(path, data) == [
        (f"{path}:3", {"path": "a, b.avi", "label": "jump"}),
        (f"{path}:4", {"path": "line\nend.avi", "label": "run"}),
        (f"{path}:7", {"path": "last.avi", "label": "x"}),
    ]
    assert read_header(str(path)) == ("path", "label")
    path.write_bytes(b'\r\n,\r\n"Path","label"\r\n')
    assert read_header(str(path)) == ("path", "label")


def test_bytes_that_are_no_utf8_stay_as_the_disk_has_them(tmp_path: Path) -> None:
    ((_, row),) = rows(tmp_path / "t.csv", b"path,label\ncaf\xe9.avi,x\n")
    assert row["path"] == "caf\udce9.avi"


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b"path,label\na,b\na,b,c\n", "t.csv:3: 'a,b,c' has 3 cells, the header has 2"),
        (b"path,label\na\n", "t.csv:2: 'a' has 1 cells"),
        (b'path,label\n\'a",b\n"a,b\nc,d\n', "t.csv:3: not a row of a table"),
        (b'path,label\n"a"b,c\n', "t.csv:2: not a row of a table"),
        (b"path,label,path\n", "t.csv:1: the column 'path' stands there twice"),
        ("path,label\n".encode("utf-16"), "t.csv is not a text file"),
    ],
)
def test_wrong_table_is_told_with_its_place(tmp_path: Path, data: bytes, told: str) -> None:
    with pytest.raises(InputError) as caught:
        rows(tmp_path / "t.csv", data)
    assert told in str(caught.value)


def test_no_file_and_no_folder(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no split list .*gone\.csv - get it"):
        list(table_rows(str(tmp_path / "gone.csv"), "get it"))
    with pytest.raises(InputError, match="not a text file"):
        list(numbered_lines(str(tmp_path), "get it"))
    for place in (tmp_path / "gone", "memory://gone-lists"):
        with pytest.raises(InputError, match="gone"):
            list_names(place, "get it")
    for url in (str(tmp_path / "gone.csv"), str(tmp_path)):
        with pytest.raises(InputError, match="no file"):
            read_header(url)


def test_lists_by_url(tmp_path: Path) -> None:
    store = fsspec.filesystem("memory")
    store.pipe("/lists/b.csv", b"path,label\nx.avi,y\n")
    store.pipe("/lists/a.txt", b"z\n")
    store.pipe("/lists/deep/c.txt", b"z\n")
    assert list_names("memory://lists", "") == ["a.txt", "b.csv"]
    assert list(table_rows("memory://lists/b.csv", "")) == [("memory://lists/b.csv:2", {"path": "x.avi", "label": "y"})]
    assert read_header("memory://lists/b.csv") == ("path", "label")
