"""Files cut short, in every container: told by the container's own lengths."""

from pathlib import Path

import av
import numpy as np
import pytest

from pclkd.sharding.video.completeness import bytes_missing
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
