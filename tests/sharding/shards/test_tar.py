import io
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pclkd.sharding.shards.tar import MemberTooLargeError, TarEntry, TarWriter, webdataset_index

MEMBERS = st.dictionaries(st.text("abcXYZ019_-", min_size=1, max_size=93), st.binary(max_size=3000), max_size=6)


def write(members: dict[str, bytes]) -> tuple[bytes, list[TarEntry]]:
    buffer = io.BytesIO()
    writer = TarWriter(buffer)
    entries = []
    for key, payload in members.items():
        entries.append(writer.add(f"{key}.mjpeg", payload))
        entries.append(writer.add(f"{key}.json", b"{}"))
    assert writer.finish() == len(buffer.getvalue())
    return buffer.getvalue(), entries


@given(MEMBERS, st.lists(st.binary(max_size=900), max_size=5))
def test_a_streamed_member_is_as_if_written_at_once_and_a_dropped_one_leaves_nothing(members, pieces) -> None:
    buffer = io.BytesIO()
    writer = TarWriter(buffer)
    for key, payload in members.items():
        for name, parts in ((f"{key}.mjpeg", [payload[:100], payload[100:]]), (f"{key}.json", [b"{}"])):
            start = writer.position
            with pytest.raises(EOFError), writer.stream("dropped") as write_piece:
                for piece in pieces:
                    write_piece(piece)
                raise EOFError
            writer.rewind(start)
            with writer.stream(name) as write_piece:
                for part in parts:
                    write_piece(part)
    writer.finish()
    assert buffer.getvalue() == write(members)[0]


class Sparse(io.FileIO):
    """A file that skips what it should write, if that is long."""

    def write(self, data) -> int:
        if len(data) < 1024:
            return super().write(data)
        self.seek(len(data), io.SEEK_CUR)
        return len(data)


def test_a_member_beyond_what_ustar_can_tell_is_refused_and_the_largest_is_not(tmp_path: Path) -> None:
    piece = bytes(1 << 26)
    with Sparse(tmp_path / "large.tar", "w+b") as file:
        writer = TarWriter(file)
        with writer.stream("large") as write_piece:
            for _ in range(127):
                write_piece(piece)
            write_piece(piece[:-1])
            with pytest.raises(MemberTooLargeError):
                write_piece(b"1")
        writer.finish()
    with tarfile.open(tmp_path / "large.tar") as tar:
        assert [member.size for member in tar] == [8 * 2**30 - 1]


@given(MEMBERS)
def test_members_and_offsets_agree_with_tarfile(members: dict[str, bytes]) -> None:
    data, entries = write(members)
    assert len(data) % 10240 == 0
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        read = {member.name: (member.offset_data, member.size, member) for member in tar}
        for entry in entries:
            offset, size, member = read.pop(entry.name)
            assert (entry.offset, entry.size) == (offset, size)
            assert member.isreg()
            assert (member.mtime, member.uid, member.gid, member.uname, member.gname) == (0, 0, 0, "", "")
            extracted = tar.extractfile(member)
            assert extracted is not None
            assert extracted.read() == data[offset : offset + size]
    assert not read
    for key, payload in members.items():
        (entry,) = [entry for entry in entries if entry.name == f"{key}.mjpeg"]
        assert data[entry.offset : entry.offset + entry.size] == payload


def test_same_members_same_bytes() -> None:
    members = {"a": b"1" * 700, "b": b""}
    assert write(members)[0] == write(members)[0]


def test_index_equals_what_wds2idx_writes(synthetic_shards: Path, tmp_path: Path) -> None:
    script = Path(sys.executable).with_name("wds2idx")
    program = str(script) if script.exists() else shutil.which("wds2idx")
    if program is None:
        pytest.skip("DALI's wds2idx is not installed")
    for shard in sorted(synthetic_shards.glob("*.tar")):
        made = tmp_path / shard.with_suffix(".idx").name
        subprocess.run([program, str(shard), str(made)], check=True, capture_output=True)
        assert shard.with_suffix(".idx").read_bytes() == made.read_bytes()


def test_index_groups_the_files_of_a_sample() -> None:
    _, entries = write({"a": b"12", "b": b"3"})
    assert webdataset_index(entries) == (
        "v1.2 2\nmjpeg 512 2 a.mjpeg json 1536 2 a.json\nmjpeg 2560 1 b.mjpeg json 3584 2 b.json\n"
    )
