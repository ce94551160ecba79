"""Shard sets made hostile: manifests, index columns, tar headers, notes, JPEGs, with right sums and signatures."""

import functools
import hashlib
import io
import json
import math
import struct
import tarfile
import tempfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from cases import NAMES, NUMBERS, Target, mutated, mutations
from hypothesis import strategies as st
from material import FRAMES, copy_set, make_shards, sign
from promise import check_message, commanded, held

__all__ = ["TARGETS", "sound_set", "use_set"]


@functools.cache
def sound_set() -> Path:
    """A sound set, made once a process."""
    return make_shards(Path(tempfile.mkdtemp(prefix="hostile-set-")) / "set")


@functools.cache
def _columns() -> tuple[str, ...]:
    return tuple(sorted(file.stem for file in (sound_set() / "index").iterdir()))


def use_set(root: Path, out: Path) -> None:
    """Everything that reads a set, to the end."""
    from pclkd.pipeline.reading.reader import FrameReader
    from pclkd.sharding.cli import main
    from pclkd.sharding.inspection.statistics import measure_set
    from pclkd.sharding.shards.index import ShardIndex
    from pclkd.sharding.shards.samples import read_frames, read_notes
    from pclkd.sharding.shards.verify import verify_shards

    out.mkdir(exist_ok=True)
    held(lambda: verify_shards(root), out)
    opened: list[ShardIndex] = []
    held(lambda: opened.append(ShardIndex.open(root, check_shards=False)), out)
    commanded(main, ["info", str(root)], out)
    if not opened:
        return
    index = opened[0]
    held(lambda: measure_set(index), out)
    for sample in range(min(len(index), 2)):
        held(lambda sample=sample: read_notes(index, sample), out)
        held(lambda sample=sample: read_frames(index, sample, [0, 1, 2]), out)
        held(lambda sample=sample: index.key(sample), out)
    held(lambda: _read_batch(FrameReader(index)), out)


def _read_batch(reader: Any) -> None:
    count = len(reader.index)
    samples = np.arange(count)
    frames = np.minimum(np.arange(3)[None].repeat(count, 0), np.diff(reader.index.sample_frames)[:, None] - 1)
    found = reader.read_batch(samples, frames)
    for damage in found.damage.values():
        if not str(damage).isprintable():
            check_message(str(damage))
    for row in set(range(count)) - set(found.damage):
        height, width = reader.index.sample_sizes([row])[0].tolist()
        for data in found.jpegs[3 * row : 3 * row + 3]:
            assert data.tobytes()[:2] == b"\xff\xd8" and len(data) < 12 * height * width + 2**20


def _check_manifest(case: dict[str, Any], folder: Path) -> None:
    root = copy_set(sound_set(), folder / "set")
    manifest = json.loads((root / "manifest.json").read_bytes())
    if "text" in case:
        (root / "manifest.json").write_bytes(case["text"])
    else:
        sign(root, mutated(manifest, case["changes"]), columns=False)
    use_set(root, folder / "out")


_TEXT = st.sampled_from(
    [b"", b"{", b"[" * 100_000, b"\xff\xfe", b"null", b"[]", b'{"format_version": 2, "fingerprint": ""}', b"9" * 5000]
)
_MANIFESTS = st.one_of(
    *([mutations.map(lambda changes: {"changes": changes})] * 9), _TEXT.map(lambda text: {"text": text})
)


@st.composite
def _column_cases(draw: st.DrawFn) -> dict[str, Any]:
    name = draw(st.sampled_from(_columns()))
    what = draw(st.sampled_from(["set", "set", "set", "set", "dtype", "shape", "header", "cut", "bytes", "swap"]))
    case: dict[str, Any] = {"column": name, "what": what}
    if what == "set":
        case["places"] = draw(st.lists(st.tuples(st.integers(0, 200), NUMBERS), min_size=1, max_size=3))
    elif what == "dtype":
        case["dtype"] = draw(
            st.sampled_from(["<f8", "<i8", "<u1", "S3", "S0", "<U2", ">i4", "<c16", "?", "M8[s]", "V4"])
        )
    elif what == "shape":
        case["shape"] = draw(st.lists(st.integers(0, 5), max_size=3))
    elif what == "header":
        case["text"] = draw(
            st.sampled_from(
                [
                    "{'descr': '<i4', 'fortran_order': False, 'shape': (1000000000000000,), }",
                    "{'descr': '|O', 'fortran_order': False, 'shape': (4,), }",
                    "{'descr': '<i4', 'fortran_order': False, 'shape': (-4,), }",
                    "{'descr': '<i4', 'fortran_order': False, 'shape': (99999999999999999999999,), }",
                    "{'descr': '<i4', 'fortran_order': True, 'shape': (2, 2), }",
                    "__import__('os').system('id')",
                    "(" * 9000,
                    "[" * 500 + "]" * 500,
                    "{'descr': [('a', '<i4'), ('a', '<i4')], 'fortran_order': False, 'shape': (4,), }",
                    "{'descr': ('<i4', (2,)), 'fortran_order': False, 'shape': (4,), 'more': 1}",
                ]
            )
        )
    else:
        case["bytes"] = draw(st.binary(max_size=200))
        case["at"] = draw(st.integers(0, 400))
    return case


def _check_column(case: dict[str, Any], folder: Path) -> None:
    root = copy_set(sound_set(), folder / "set")
    file = root / "index" / f"{case['column']}.npy"
    column = np.load(file)
    what, data = case["what"], file.read_bytes()
    if what == "set":
        flat = column.reshape(-1)
        for place, value in case["places"]:
            with np.errstate(all="ignore"):
                flat[place % len(flat)] = _fitting(value, column.dtype)
        np.save(file, column)
    elif what == "dtype":
        np.save(file, np.zeros(column.shape, case["dtype"]))
    elif what == "shape":
        np.save(file, np.zeros(case["shape"], column.dtype))
    elif what == "header":
        text = case["text"].encode()
        file.write_bytes(b"\x93NUMPY\x02\x00" + struct.pack("<I", len(text)) + text + bytes(64))
    elif what == "cut":
        file.write_bytes(data[: case["at"]])
    elif what == "bytes":
        file.write_bytes(data[: case["at"]] + case["bytes"] + data[case["at"] + len(case["bytes"]) :])
    else:  # what numpy.load takes as well
        buffer = io.BytesIO()
        np.savez(buffer, a=column)
        file.write_bytes(buffer.getvalue())
    sign(root)
    use_set(root, folder / "out")


def _fitting(value: float, dtype: np.dtype[Any]) -> Any:
    if dtype.kind == "S":
        return str(value).encode()[:7] if value % 2 else b"../../x"
    if isinstance(value, float) and not math.isfinite(value):
        return 0
    about = np.iinfo(dtype)
    return int(min(max(int(value), about.min), about.max))


_TYPES = st.sampled_from(list(b"0123456789gxLKSDMNVX\0"))


@st.composite
def _tar_cases(draw: st.DrawFn) -> dict[str, Any]:
    return {
        "member": draw(st.integers(0, 1)),
        "name": draw(st.one_of(st.just("v0.json"), NAMES)),
        "type": draw(st.one_of(st.just(48), _TYPES)),
        "size": draw(
            st.one_of(
                st.none(),
                st.sampled_from([0, 1, 511, 8**11 - 1, -1, -(2**40), 2**60, -(2**63)]),
                st.integers(0, 3000),
            )
        ),
        "link": draw(NAMES),
        "notes": draw(
            st.one_of(
                st.none(),
                mutations,
                st.sampled_from([b"[" * 4000, b"", b"nul", b"\xff", b'{"key": "v0"}', b"9" * 4500]),
            )
        ),
    }


def _check_tar(case: dict[str, Any], folder: Path) -> None:
    """Replace a header or the notes of the first video; its sums, and the shard's, are those of the new bytes."""
    root = copy_set(sound_set(), folder / "set")
    index, tar = root / "index", root / "set-000000.tar"
    data = bytearray(tar.read_bytes())
    offset, size = (int(np.load(index / f"sample_{name}.npy")[0]) for name in ("offset", "size"))
    frames = int(np.load(index / "frame_length.npy")[:FRAMES].sum())
    notes_at = offset + -(-frames // 512) * 512
    header_at = offset - 512 if case["member"] == 0 else notes_at
    length = tarfile.TarInfo.frombuf(bytes(data[notes_at : notes_at + 512]), "utf-8", "strict").size
    if case["notes"] is not None:
        text = case["notes"]
        if not isinstance(text, bytes):
            text = json.dumps(mutated(json.loads(bytes(data[notes_at + 512 : notes_at + 512 + length])), text)).encode()
        room = offset - 512 + size - notes_at - 512
        text = text[:room]
        data[notes_at + 512 : notes_at + 512 + room] = text + bytes(room - len(text))
        length = len(text)
        data[notes_at : notes_at + 512] = _header("v0.json", length, 48, "")
    declared = case["size"]
    if declared is None:
        declared = frames if case["member"] == 0 else length
    data[header_at : header_at + 512] = _header(case["name"], declared, case["type"], case["link"])
    tar.write_bytes(data)
    sums = np.load(index / "sample_crc32.npy")
    sums[0] = zlib.crc32(data[offset - 512 : offset - 512 + size])
    np.save(index / "sample_crc32.npy", sums)
    manifest = json.loads((root / "manifest.json").read_bytes())
    manifest["shards"][0]["sha256"] = hashlib.sha256(data).hexdigest()
    sign(root, manifest)
    use_set(root, folder / "out")


def _header(name: str, size: int, kind: int, link: str) -> bytes:
    """A header as a tar may have it, with its checksum: sizes that eleven digits do not tell are in base 256."""
    text = name.encode("utf-8", "surrogatepass")[:100]
    number = (
        b"%011o\0" % size
        if 0 <= size < 8**11
        else (b"\xff" if size < 0 else b"\x80") + (size % 2**88).to_bytes(11, "big")
    )
    head = text.ljust(100, b"\0") + b"0000644\0" + b"0000000\0" * 2 + number + b"0" * 11 + b"\0"
    rest = bytes([kind]) + link.encode("utf-8", "surrogatepass")[:100].ljust(100, b"\0") + b"ustar\x0000" + bytes(64)
    rest += b"0000000\0" * 2 + bytes(167)
    whole = head + b" " * 8 + rest
    return head + b"%06o\0 " % sum(whole) + rest


TARGETS = (
    Target("manifest", _MANIFESTS, _check_manifest, 80),
    Target("columns", _column_cases(), _check_column, 80),
    Target("tars", _tar_cases(), _check_tar, 60),
)
