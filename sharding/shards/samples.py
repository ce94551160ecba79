"""Frames and notes of single samples, read from the shards by byte range: for people, not for training.

It needs neither DALI nor a whole shard, and reads local and remote sets alike.
"""

import difflib
import io
import math
import tarfile
import zlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from pclkd.sharding.common.errors import InputError
from pclkd.sharding.common.files import parse_json
from pclkd.sharding.common.storage import read_range
from pclkd.sharding.shards.index import ShardIndex
from pclkd.sharding.shards.tar import BLOCK, member_header

__all__ = ["decoded_frames", "find_sample", "notes_at", "read_frames", "read_jpegs", "read_notes"]

_VERIFY = "run 'shard-ucf101 verify' to learn what is damaged, and pack the videos again"
_NEIGHBOURS = 1000


def find_sample(index: ShardIndex, key: str) -> int:
    """Return the sample called `key`.

    Raises:
        InputError: there is none; the message names the key that is nearest.
    """
    found = np.flatnonzero(index.sample_key == key.encode(errors="replace"))
    if len(found):
        return int(found[0])
    raise InputError(f"no video {key!r} in {index.root}", remedy=f"did you mean {_nearest(index, key)!r}?")


def _nearest(index: ShardIndex, key: str) -> str:
    # People also give what they see in the data set's folders: Class/file.avi.
    wanted = key.rpartition("/")[2].partition(".")[0] or key
    keys = index.sample_key
    if len(keys) > 2 * _NEIGHBOURS:
        # Comparing letter by letter takes 20 us a key: among many, only those that begin alike are looked at.
        keys = np.sort(keys)
        place = int(np.searchsorted(keys, wanted.encode(errors="replace")))
        keys = keys[max(0, min(place, len(keys)) - _NEIGHBOURS) : place + _NEIGHBOURS]
    names = {bytes(name).decode("ascii"): None for name in keys}
    folded = {name.casefold(): name for name in names}
    return folded[difflib.get_close_matches(wanted.casefold(), folded, n=1, cutoff=0.0)[0]]


def read_jpegs(index: ShardIndex, sample: int, numbers: Sequence[int]) -> list[bytes]:
    """Read some frames of a sample as they are stored, checked against their checksums.

    Args:
        index: the shard set.
        sample: which sample.
        numbers: which of its frames, ascending, from 0. A run of neighbours is read in one go.

    Raises:
        InputError: a frame is not what the index tells.
    """
    first = int(index.sample_frames[sample])
    url = index.shard_url(int(index.sample_shard[sample]))
    jpegs: list[bytes] = []
    for run in _runs(numbers):
        rows = np.arange(first + run.start, first + run.stop)
        offsets, lengths = index.frame_offset[rows].tolist(), index.frame_length[rows].tolist()
        begin = int(index.sample_offset[sample])
        end = begin + int(index.sample_size[sample])
        inside = all(begin <= at < at + length <= end for at, length in zip(offsets, lengths, strict=True))
        start = offsets[0]
        data = read_range(url, start, max(map(int.__add__, offsets, lengths)) - start) if inside else b""
        for row, offset, length in zip(rows.tolist(), offsets, lengths, strict=True):
            jpeg = data[offset - start : offset - start + length]
            if not jpeg or zlib.crc32(jpeg) != index.frame_crc32[row]:
                raise _damaged(index, sample, row - first, "is damaged")
            jpegs.append(jpeg)
    return jpegs


def _damaged(index: ShardIndex, sample: int, frame: int, what: str) -> InputError:
    url = index.shard_url(int(index.sample_shard[sample]))
    return InputError(f"frame {frame} of video {index.key(sample)} in {url} {what}", remedy=_VERIFY)


def read_frames(index: ShardIndex, sample: int, numbers: Sequence[int]) -> list[npt.NDArray[np.uint8]]:
    """Read and decode some frames of a sample, uint8 [H, W, 3] in RGB; otherwise as `read_jpegs`."""
    return list(decoded_frames(index, sample, numbers))


def decoded_frames(index: ShardIndex, sample: int, numbers: Sequence[int]) -> Iterator[npt.NDArray[np.uint8]]:
    """Give what `read_frames` returns, one by one."""
    height, width = index.sample_sizes([sample])[0].tolist()
    for number, jpeg in zip(numbers, read_jpegs(index, sample, numbers), strict=True):
        try:
            picture = Image.open(io.BytesIO(jpeg), formats=("JPEG",))
            if picture.size != (width, height):  # told by its header: nothing of it is decoded yet
                raise _damaged(index, sample, number, f"is {picture.height}x{picture.width}, not {height}x{width}")
            frame = np.asarray(picture.convert("RGB"))
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
            raise _damaged(index, sample, number, f"is no JPEG that can be decoded ({error})") from None
        yield frame


def read_notes(index: ShardIndex, sample: int) -> dict[str, Any]:
    """Read what stands beside a sample in its shard: class, fps, source file and so on.

    Raises:
        InputError: the shard does not hold it where the index tells.
    """
    frames = slice(*index.sample_frames[sample : sample + 2].tolist())
    url = index.shard_url(int(index.sample_shard[sample]))
    offset, size = int(index.sample_offset[sample]), int(index.sample_size[sample])
    return notes_at(url, offset, size, index.frame_length[frames], index.key(sample))


def notes_at(url: str, offset: int, size: int, lengths: npt.NDArray[np.int32], key: str) -> dict[str, Any]:
    """Read the notes of the sample whose frames of these lengths begin at `offset`; see `read_notes`."""
    # The JSON follows the frames, which fill whole blocks.
    start = offset + -(-int(lengths.sum(dtype=np.int64)) // BLOCK) * BLOCK
    try:
        data = read_range(url, start, offset - BLOCK + size - start) if start >= offset else b""
        header = member_header(data)
        notes = parse_json(data[BLOCK : BLOCK + header.size])
    except (tarfile.TarError, ValueError) as error:
        raise InputError(f"the notes of video {key} in {url} are damaged ({error})", remedy=_VERIFY) from None
    if not isinstance(notes, dict) or notes.get("key") != key:
        raise InputError(f"video {key} has no notes in {url}", remedy=_VERIFY)
    if fault := _fault(notes):
        raise InputError(f"the notes of video {key} in {url} are no packer's ({fault})", remedy=_VERIFY)
    return notes


_NOTES: dict[str, type | tuple[type, ...]] = {
    "class": (str, type(None)),
    "fps": (int, float),
    "height": int,
    "width": int,
    "source": str,
    "source_sha256": str,
}


def _fault(notes: dict[str, Any]) -> str:
    """Return what of the notes that are read somewhere cannot be; empty where all can."""
    for name, kind in _NOTES.items():
        if not isinstance(notes.get(name), kind):
            return f"{name} = {notes.get(name)!r}"
    span = notes.get("span") or {"start": 0, "end": 0, "unit": "s"}
    sound = isinstance(span, dict) and span.keys() == {"start", "end", "unit"} and span["unit"] in ("s", "frames")
    if not sound or not all(isinstance(span[name], int | float) for name in ("start", "end")):
        return f"span = {span!r}"
    if not notes["source"].isprintable() or not isinstance(notes.get("remark", ""), str):
        return f"source = {notes['source']!r}, remark = {notes.get('remark', '')!r}"
    return "" if 0 <= notes["fps"] < math.inf else f"fps = {notes['fps']}"


def _runs(numbers: Sequence[int]) -> list[range]:
    """Return ascending numbers as ranges of neighbours."""
    runs: list[range] = []
    for number in numbers:
        if runs and runs[-1].stop == number:
            runs[-1] = range(runs[-1].start, number + 1)
        else:
            runs.append(range(number, number + 1))
    return runs
