"""Files cut short, in every container: told by the container's own lengths."""

import struct
from pathlib import Path

import av
import numpy as np
import pytest

from pclkd.sharding.video.completeness import bytes_missing, frames_stored
from pclkd.sharding.video.frames import UnreadableVideoError, open_video
from pclkd.sharding.video.settings import PackSettings

FRAMES = 60


def frames() -> list[list[np.ndarray]]:
    noise = np.random.default_rng(0)
    return [
        [noise.integers(0, 255, size, dtype=np.uint8).repeat(8, 0).repeat(8, 1) for size in ((8, 12), (4, 6), (4, 6))]
        for _ in range(FRAMES)
    ]


KINDS = {
    "avi": ("v.avi", "mpeg4", {}),
    "mkv": ("v.mkv", "libx264", {}),
    "webm-vp8": ("v.webm", "libvpx", {"auto-alt-ref": "1", "lag-in-frames": "16", "b": "200k"}),
    "webm-vp9": ("v.webm", "libvpx-vp9", {"auto-alt-ref": "1", "lag-in-frames": "16"}),
    "mp4": ("v.mp4", "libx264", {}),
    "mp4-fast-start": ("v.mp4", "libx264", {"movflags": "faststart"}),
    "mp4-fragments": ("v.mp4", "libx264", {"movflags": "frag_keyframe+empty_moov", "g": "10"}),
    "mov": ("v.mov", "mpeg4", {"movflags": "faststart"}),
}


@pytest.fixture(scope="module", params=list(KINDS))
def whole(request: pytest.FixtureRequest, write_video, tmp_path_factory: pytest.TempPathFactory) -> Path:
    name, codec, options = KINDS[request.param]
    folder = tmp_path_factory.mktemp("whole")
    container = {key: value for key, value in options.items() if key == "movflags"}
    path = write_video(
        folder / name, frames(), codec=codec, options={k: v for k, v in options.items() if k != "movflags"}
    )
    if container:
        again = folder / f"again{path.suffix}"
        with av.open(str(path)) as old, av.open(str(again), "w", options=container) as new:
            stream = new.add_stream_from_template(old.streams.video[0])
            for packet in old.demux(video=0):
                if packet.dts is not None:
                    packet.stream = stream
                    new.mux(packet)
        return again
    return path


def count(path: Path) -> int:
    with open_video(path, PackSettings(32, 48)) as video:
        return sum(1 for _ in video.frames)


def test_nothing_is_missing_from_a_whole_file(whole: Path) -> None:
    assert bytes_missing(whole) == 0
    assert count(whole) == FRAMES


@pytest.mark.parametrize("share", [0.15, 0.5, 0.8, 0.9])
def test_cut_files_are_refused(whole: Path, tmp_path: Path, share: float) -> None:
    path = tmp_path / whole.name
    raw = whole.read_bytes()
    path.write_bytes(raw[: int(share * len(raw))])
    with pytest.raises(UnreadableVideoError, match=r"cut short|damaged|is no video|cannot be decoded"):
        count(path)


def test_bytes_missing_is_exact_where_one_chunk_holds_all(write_video, tmp_path: Path) -> None:
    for name, codec in (("v.mkv", "ffv1"), ("v.webm", "libvpx-vp9")):
        path = write_video(tmp_path / name, frames()[:10], codec=codec)
        raw = path.read_bytes()
        path.write_bytes(raw[:-500])
        assert bytes_missing(path) == 500


def test_long_avi_of_several_chunks(tmp_path: Path) -> None:
    """OpenDML: a file beyond a gigabyte is a row of RIFF chunks; each has an even length."""
    path = tmp_path / "v.avi"
    first = b"RIFF" + (1001).to_bytes(4, "little") + bytes(1001) + b"\0"
    second = b"RIFF" + (500).to_bytes(4, "little") + bytes(500)
    path.write_bytes(first + second)
    assert bytes_missing(path) == 0
    path.write_bytes((first + second)[:-100])
    assert bytes_missing(path) == 100
    path.write_bytes(first)
    assert bytes_missing(path) == 0


@pytest.mark.parametrize(
    "content", [b"", b"RIFF", b"\x1a\x45\xdf\xa3", b"\x1a\x45\xdf\xa3\x01", b"\0\0\0\x08ftyp", bytes(99)]
)
def test_short_and_other_files(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "v"
    path.write_bytes(content)
    assert bytes_missing(path) == 0


def test_frames_that_an_edit_list_hides_are_no_loss(write_video, tmp_path: Path) -> None:
    """A phone that trims a recording keeps all frames in the file and hides those cut away."""
    path = write_video(tmp_path / "v.mp4", frames(), options={"bf": "0", "g": "1"})
    raw = bytearray(path.read_bytes())
    entry = raw.index(b"elst") + 12
    duration = int.from_bytes(raw[entry : entry + 4], "big")
    raw[entry : entry + 4] = (duration // 2).to_bytes(4, "big")
    path.write_bytes(raw)
    assert count(path) == FRAMES // 2


@pytest.fixture
def avi(synthetic_videos) -> bytes:
    """Bytes of a rendered video of 96 frames."""
    return next(iter(sorted(synthetic_videos.videos.glob("*/*.avi")))).read_bytes()


def announcing(data: bytes, number: int) -> bytes:
    """An AVI whose two headers announce another number of frames."""
    changed = bytearray(data)
    for at in (data.index(b"avih") + 8 + 16, data.index(b"strh") + 8 + 32):
        changed[at : at + 4] = struct.pack("<I", number)
    return bytes(changed)


def ending(data: bytes, frames: int, extra: int = 0) -> bytes:
    """An AVI without index that ends behind some of its frames (and `extra` bytes), and whose lengths say so."""
    at = movi = data.index(b"movi") + 4
    while frames:
        frames -= data[at : at + 4] == b"00dc"
        length = struct.unpack("<I", data[at + 4 : at + 8])[0]
        at += 8 + length + length % 2
    at += extra
    return b"".join(
        [b"RIFF", struct.pack("<I", at - 8), data[8 : movi - 8], struct.pack("<I", at - movi + 4), data[movi - 4 : at]]
    )


@pytest.mark.parametrize("announced", [97, 110, 431, 10**9])
def test_a_header_that_alone_is_wrong_loses_no_video(avi: bytes, tmp_path: Path, announced: int) -> None:
    path = tmp_path / "v.avi"
    path.write_bytes(announcing(avi, announced))
    assert count(path) == 96
    path.write_bytes(announcing(ending(avi, 60), announced))
    assert count(path) == 60
    assert frames_stored(path, 0) == 60


def test_an_end_in_the_middle_of_a_frame_is_refused(avi: bytes, tmp_path: Path) -> None:
    path = tmp_path / "v.avi"
    path.write_bytes(ending(avi, 60, extra=100))
    assert bytes_missing(path) == 0
    assert frames_stored(path, 0) is None
    with pytest.raises(UnreadableVideoError, match="is damaged: only 60 of 96 frames"):
        count(path)


@pytest.mark.parametrize("filling", [b"\0", b"\xa5"])
def test_a_download_that_was_never_filled_is_refused(avi: bytes, tmp_path: Path, filling: bytes) -> None:
    """Programs that fetch pieces in any order reserve the whole file first: its length tells nothing."""
    path = tmp_path / "v.avi"
    path.write_bytes(avi[: len(avi) * 2 // 3] + filling * (len(avi) - len(avi) * 2 // 3))
    with pytest.raises(UnreadableVideoError, match=r"is damaged|cannot be decoded"):
        count(path)


def test_empty_chunks_are_no_frames_of_their_own(write_video, tmp_path: Path) -> None:
    """FFmpeg writes an empty chunk for each tick without a frame, and counts it in the header."""
    path = write_video(tmp_path / "v.avi", frames()[:10], codec="mpeg4", times=range(0, 200, 20))
    assert frames_stored(path, 0) == count(path) == 10


def without_packets(raw: bytes, every: int) -> bytes:
    """A transport stream that lost a packet (of 188 bytes) now and then."""
    packets = [raw[at : at + 188] for at in range(0, len(raw), 188)]
    return b"".join(packet for number, packet in enumerate(packets) if number < every or number % every)


def test_a_transport_stream_with_gaps_is_refused(write_video, tmp_path: Path) -> None:
    """Its packets are counted, so that lost ones are known."""
    path = write_video(tmp_path / "v.ts", frames(), codec="mpeg2video")
    raw = path.read_bytes()
    path.write_bytes(without_packets(raw, 40))
    with pytest.raises(UnreadableVideoError, match=r"^is damaged: a frame's data is not all there"):
        count(path)
    path = path.rename(tmp_path / "v.mp4")
    with pytest.raises(UnreadableVideoError, match=r"^is MPEG-TS .*inside and is damaged"):
        count(path)
    path.write_bytes(raw)
    assert count(path) == FRAMES


def test_segments_that_were_joined_are_whole(write_video, tmp_path: Path) -> None:
    """Where the second one begins, the counters of the packets break and time stamps go back."""
    path = write_video(tmp_path / "v.ts", frames(), codec="mpeg2video")
    path.write_bytes(2 * path.read_bytes())
    with open_video(path, PackSettings(32, 48)) as video:
        assert sum(1 for _ in video.frames) == 2 * FRAMES
        assert list(video.times) == pytest.approx([number / 25 for number in range(2 * FRAMES)])
