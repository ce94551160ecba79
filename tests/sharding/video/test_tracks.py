"""Which track of a file is packed: the video, never its cover picture; of several, the default one."""

import struct
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from av.stream import Disposition

from pclkd.sharding.video.decode import open_container
from pclkd.sharding.video.frames import UnreadableVideoError, open_planes
from pclkd.sharding.video.settings import PackSettings


def flat(level: int, height: int = 48, width: int = 64) -> av.VideoFrame:
    return av.VideoFrame.from_ndarray(np.full((height * 3 // 2, width), level, np.uint8), format="yuv420p")


def write(path: Path, *tracks: tuple[int, int, Disposition], codec: str = "mpeg4") -> Path:
    """Write a track for each (frames, luma, disposition), one after another; a picture is a JPEG."""
    with av.open(str(path), "w") as out:
        streams = []
        for _, _, disposition in tracks:
            stream = out.add_stream("mjpeg" if disposition & Disposition.attached_pic else codec, rate=25)
            stream.width, stream.height = 64, 48
            stream.pix_fmt = "yuvj420p" if disposition & Disposition.attached_pic else "yuv420p"
            stream.disposition = disposition
            streams.append(stream)
        for stream, (frames, level, _) in zip(streams, tracks, strict=True):
            for number in range(frames):
                frame = flat(level).reformat(format=stream.pix_fmt)
                frame.pts, frame.time_base = number, Fraction(1, 25)
                out.mux(stream.encode(frame))
            out.mux(stream.encode())
    return path


def levels(path: Path) -> tuple[list[int], str]:
    with open_planes(path, PackSettings(48, 64)) as video:
        return [round(16 + float(luma.mean()) * 219 / 255) for luma, _, _ in video.frames], video.remark


def moved_forward(data: bytes, name: bytes, before: bytes) -> bytes:
    """An MP4 whose moov, at its end, has one of its atoms moved before another."""
    moov = data.index(b"moov") - 4
    atoms, at = [], moov + 8
    while at < len(data):
        size = struct.unpack(">I", data[at : at + 4])[0]
        atoms.append(data[at : at + size])
        at += size
    assert data[moov : moov + 4] == struct.pack(">I", len(data) - moov), "moov is not the last atom"
    chosen = next(atom for atom in atoms if atom[4:8] == name)
    atoms.remove(chosen)
    atoms.insert(next(place for place, atom in enumerate(atoms) if atom[4:8] == before), chosen)
    return data[: moov + 8] + b"".join(atoms)


def test_cover_picture_before_the_video(tmp_path: Path) -> None:
    path = write(tmp_path / "v.mp4", (20, 90, Disposition(0)), (1, 200, Disposition.attached_pic))
    path.write_bytes(moved_forward(path.read_bytes(), b"udta", b"trak"))
    with av.open(str(path)) as container:
        assert container.streams.video[0].disposition & Disposition.attached_pic, "the cover is not the first stream"
    assert levels(path) == (20 * [90], "")


def test_cover_picture_and_no_video(tmp_path: Path) -> None:
    path = tmp_path / "v.mp4"
    with av.open(str(path), "w") as out:
        sound = out.add_stream("aac", rate=8000, layout="mono")
        stream = out.add_stream("mjpeg", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuvj420p"
        stream.disposition = Disposition.attached_pic
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 8000
        out.mux([*sound.encode(frame), *sound.encode()])
        out.mux([*stream.encode(flat(50).reformat(format="yuvj420p")), *stream.encode()])
    with pytest.raises(UnreadableVideoError, match="holds no video stream but a cover picture"):
        levels(path)


@pytest.mark.parametrize("default", [0, 1])
def test_of_several_tracks_the_default_one(tmp_path: Path, default: int) -> None:
    """Even where the other one has more frames."""
    marks = [Disposition(0), Disposition(0)]
    marks[default] = Disposition.default
    path = write(tmp_path / "v.mkv", (12, 60, marks[0]), (20, 120, marks[1]))
    found, remark = levels(path)
    assert found == [12 * [60], 20 * [120]][default]
    assert remark == f"holds 2 video tracks; track {default + 1}, the default one, is packed"


def test_of_several_tracks_without_a_default_the_best_one(tmp_path: Path) -> None:
    path = write(tmp_path / "v.ts", (3, 60, Disposition(0)), (20, 120, Disposition(0)), codec="mpeg2video")
    found, remark = levels(path)
    assert found == 20 * [120]
    assert remark == "holds 2 video tracks; track 2, the best one, is packed"


def test_metadata_that_is_not_utf_8(tmp_path: Path) -> None:
    """PyAV 18 refuses it unless told otherwise, PyAV 19 takes it and cannot be told."""
    path = tmp_path / "v.mkv"
    with av.open(str(path), "w") as out:
        stream = out.add_stream("ffv1", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        out.metadata["title"] = "a title"
        out.mux([*stream.encode(flat(50)), *stream.encode()])
    path.write_bytes(path.read_bytes().replace(b"a title", b"\xe4 \xff\xfetle"))
    assert levels(path)[0] == [50]
    with open_container(path) as container:
        assert len(container.metadata["title"]) > 4
