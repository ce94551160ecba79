import io
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pclkd.sharding.tar import TarWriter, webdataset_index

MEMBERS = st.dictionaries(st.text("abcXYZ019_-", min_size=1, max_size=93), st.binary(max_size=3000), max_size=6)


def write(members: dict[str, bytes]) -> tuple[bytes, TarWriter]:
    buffer = io.BytesIO()
    writer = TarWriter(buffer)
    for key, payload in members.items():
        writer.add(f"{key}.mjpeg", payload)
        writer.add(f"{key}.json", b"{}")
    assert writer.finish() == len(buffer.getvalue())
    return buffer.getvalue(), writer


@given(MEMBERS)
def test_members_and_offsets_agree_with_tarfile(members: dict[str, bytes]) -> None:
    data, writer = write(members)
    assert len(data) % 10240 == 0
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        read = {member.name: (member.offset_data, member.size, member) for member in tar}
        for entry in writer.entries:
            offset, size, member = read.pop(entry.name)
            assert (entry.offset, entry.size) == (offset, size)
            assert member.isreg()
            assert (member.mtime, member.uid, member.gid, member.uname, member.gname) == (0, 0, 0, "", "")
            extracted = tar.extractfile(member)
            assert extracted is not None
            assert extracted.read() == data[offset : offset + size]
    assert not read
    for key, payload in members.items():
        (entry,) = [entry for entry in writer.entries if entry.name == f"{key}.mjpeg"]
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
    _, writer = write({"a": b"12", "b": b"3"})
    assert webdataset_index(writer.entries) == (
        "v1.2 2\nmjpeg 512 2 a.mjpeg json 1536 2 a.json\nmjpeg 2560 1 b.mjpeg json 3584 2 b.json\n"
    )
