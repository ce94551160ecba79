"""What is on screen when: real files of every kind of clock, with a counter in their pixels."""

import itertools
import struct
from collections.abc import Sequence
from fractions import Fraction
from math import ceil
from pathlib import Path

import av
import numpy as np
import pytest

from pclkd.sharding.video.clock import settled_rate
from pclkd.sharding.video.frames import UnreadableVideoError, open_planes
from pclkd.sharding.video.settings import PackSettings

MS = Fraction(1, 1000)
OPTIONS = {
    "libx264": {"qp": "0", "bf": "2"},
    "libvpx": {"crf": "4", "b": "4M", "deadline": "realtime", "cpu-used": "8"},
}
# Recorded from a screen or a phone: nothing changes, then everything does.
VARIABLE = [0, 40, 80, 500, 510, 520, 1400, 1440, 1480, 1520, 1525, 2300, 2340, 2380, 3000, 3033, 3067, 3100]
GAP = [*range(0, 400, 40), *range(2400, 2800, 40)]


def picture(number: int) -> av.VideoFrame:
    """A frame that shows its number: tens on the left, ones on the right, as levels of grey."""
    luma = np.repeat([[20 + 20 * (number // 10), 20 + 20 * (number % 10)]], 32, axis=1).repeat(48, axis=0)
    planes = [luma.astype(np.uint8).reshape(48, 64), np.full((24, 64), 128, np.uint8)]
    return av.VideoFrame.from_ndarray(np.concatenate(planes), format="yuv420p")


def record(path: Path, times: Sequence[int], codec: str, base: Fraction = MS, rate: int = 25, **container: str) -> Path:
    """Write a frame for each of the times, in units of `base`."""
    with av.open(str(path), "w", options=container) as out:
        stream = out.add_stream(codec, rate=rate, options=OPTIONS.get(codec, {}))
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        if codec not in {"mpeg4", "mpeg2video"}:
            stream.codec_context.time_base = base
        for number, time in enumerate(times):
            frame = picture(number)
            frame.pts, frame.time_base = time, base
            out.mux(stream.encode(frame))
        out.mux(stream.encode())
    return path


def read(path: Path, fps: float = 0) -> tuple[list[int], list[float], float]:
    """The numbers that the stored frames show, their times, and the frame rate that is told for them."""
    with open_planes(path, PackSettings(48, 64, fps=fps)) as video:
        numbers = []
        for luma, _, _ in video.frames:
            digits = [
                round((16 + float(half.mean()) * 219 / 255 - 20) / 20) for half in (luma[:, 4:28], luma[:, 36:60])
            ]
            numbers.append(10 * digits[0] + digits[1])
        return numbers, [round(time, 6) for time in video.times], settled_rate(video.times, video.fps)[0]


def check_on_screen(path: Path, seconds: Sequence[float | Fraction], fps: int) -> None:
    """Every output frame but those after the last source frame began, which can only show that one."""
    found, times, _ = read(path, fps)
    begins = [time - seconds[0] for time in seconds]
    ticks = [Fraction(tick, fps) for tick in range(ceil((begins[-1] + Fraction(1, 10**6)) * fps))]
    assert found[: len(ticks)] == [max(n for n, begin in enumerate(begins) if begin <= tick) for tick in ticks]
    longest = max(after - before for before, after in itertools.pairwise(begins))
    assert found[len(ticks) :] == (len(found) - len(ticks)) * [len(seconds) - 1]
    assert len(found) - len(ticks) <= ceil(longest * fps)
    assert times == []


@pytest.mark.parametrize(
    ("name", "codec"),
    [
        ("v.avi", "mpeg4"),
        ("v.mp4", "libx264"),
        ("v.mov", "mpeg4"),
        ("v.mkv", "ffv1"),
        ("v.webm", "libvpx"),
        ("v.ts", "libx264"),
        ("v.mpg", "mpeg2video"),
        ("v.flv", "flv"),
        ("v.wmv", "wmv2"),
        ("v.3gp", "mpeg4"),
        ("v.ogv", "libvpx"),
        ("v.h264", "libx264"),
        ("v.m4v", "mpeg4"),
        ("v.m2v", "mpeg2video"),
        ("v.nut", "ffv1"),
        ("v.mxf", "mpeg2video"),
    ],
)
@pytest.mark.parametrize("fps", [10, 25, 30])
def test_constant_rate(tmp_path: Path, name: str, codec: str, fps: int) -> None:
    path = record(tmp_path / name, range(40), codec, Fraction(1, 25))
    numbers, times, rate = read(path)
    assert (numbers, times, rate) == (list(range(40)), [round(n / 25, 6) for n in range(40)], 25)
    check_on_screen(path, [Fraction(n, 25) for n in range(40)], fps)
    assert len(read(path, fps)[0]) == ceil(40 * fps / 25)


def test_pictures_that_move(tmp_path: Path) -> None:
    """A GIF tells how long each picture stays; JPEGs one behind the other are 25 a second."""
    pictures = [picture(number).to_image() for number in range(9)]
    stays = [40, 40, 500, 20, 20, 1000, 40, 80, 200]
    pictures[0].save(path := tmp_path / "v.gif", save_all=True, append_images=pictures[1:], duration=stays, loop=0)
    begins = [sum(stays[:n]) * MS for n in range(9)]
    assert read(path)[:2] == (list(range(9)), list(map(float, begins)))
    check_on_screen(path, begins, 50)
    assert len(read(path, 50)[0]) == sum(stays) // 20
    path = tmp_path / "v.mjpeg"
    with path.open("wb") as file:
        for one in pictures:
            one.save(file, "JPEG", quality=95)
    assert read(path) == (list(range(9)), [round(n / 25, 6) for n in range(9)], 25)
    pictures[0].save(tmp_path / "one.avi", "JPEG")
    with pytest.raises(UnreadableVideoError, match="is a JPEG picture, no video"):
        read(tmp_path / "one.avi")


@pytest.mark.parametrize("fps", [10, 15, 30])
def test_constant_rate_in_rounded_stamps(tmp_path: Path, fps: int) -> None:
    path = record(tmp_path / "v.mkv", range(60), "ffv1", Fraction(1, 30), rate=30)
    assert read(path, fps)[0] == [n * 30 // fps for n in range(2 * fps)]


@pytest.mark.parametrize("times", [VARIABLE, GAP], ids=["variable", "gap"])
@pytest.mark.parametrize(
    ("name", "codec"), [("v.mp4", "libx264"), ("v.mkv", "ffv1"), ("v.webm", "libvpx"), ("v.ts", "libx264")]
)
@pytest.mark.parametrize("fps", [4, 10, 50])
def test_variable_rate(tmp_path: Path, name: str, codec: str, times: list[int], fps: int) -> None:
    path = record(tmp_path / name, times, codec)
    numbers, found, rate = read(path)
    assert numbers == list(range(len(times)))
    assert found == [time / 1000 for time in times]
    assert rate == pytest.approx(1000 * (len(times) - 1) / times[-1], rel=0.006)
    check_on_screen(path, [Fraction(time, 1000) for time in times], fps)


@pytest.mark.parametrize("times", [[round(n * 100 / 3) for n in range(90)], VARIABLE], ids=["constant", "variable"])
def test_webm_of_a_browser_that_stores_no_rate(tmp_path: Path, times: list[int]) -> None:
    path = record(tmp_path / "v.webm", times, "libvpx", rate=30)
    raw = path.read_bytes()
    assert raw.count(b"\x23\xe3\x83\x84") == 1  # the default duration becomes a void of the same length
    at = raw.index(b"\x23\xe3\x83\x84")
    path.write_bytes(raw[:at] + b"\xec\x86" + bytes(6) + raw[at + 8 :])
    numbers, found, rate = read(path)
    assert numbers == list(range(len(times)))
    assert found == [time / 1000 for time in times]
    assert rate == pytest.approx(1000 * (len(times) - 1) / times[-1], rel=0.006)
    for fps in (10, 15):
        check_on_screen(
            path, [Fraction(n, 30) for n in range(90)] if times != VARIABLE else [time * MS for time in times], fps
        )


@pytest.mark.parametrize(
    ("name", "codec", "start"),
    [
        ("v.mkv", "ffv1", 90_000),
        *(("v.mp4", "mpeg4", start) for start in (-200, 720, 90_000)),
        *(("v.ts", "libx264", start) for start in (-200, 90_000)),
    ],
)
def test_time_begins_with_the_first_frame(tmp_path: Path, name: str, codec: str, start: int) -> None:
    """A stream may begin before its container's zero (and MP4 then hides what is before) or long after it."""
    base = MS if codec != "mpeg4" else Fraction(1, 25)
    times = [start + time for time in VARIABLE] if base == MS else [start // 40 + n for n in range(20)]
    path = record(tmp_path / name, times, codec, base, avoid_negative_ts="disabled")
    numbers, found, _ = read(path)
    assert numbers == list(range(numbers[0], len(times)))
    assert found == [round(float((time - times[numbers[0]]) * base), 6) for time in times[numbers[0] :]]
    assert read(path, 10)[0][0] == numbers[0]


def test_edit_list_that_begins_later(tmp_path: Path) -> None:
    """What a phone trimmed: frames before the edit's start are in the file and never on screen."""
    path = record(tmp_path / "v.mp4", range(40), "mpeg4", Fraction(1, 25))
    raw = bytearray(path.read_bytes())
    scale = struct.unpack(">I", raw[(at := raw.index(b"mdhd") + 16) : at + 4])[0]
    entry = raw.index(b"elst") + 12
    raw[entry : entry + 8] = struct.pack(">II", 24 * 40, scale * 16 // 25)
    path.write_bytes(raw)
    numbers, found, _ = read(path)
    assert numbers == list(range(16, 40))
    assert found == [round(n / 25, 6) for n in range(24)]
    assert read(path, 5)[0] == [16, 21, 26, 31, 36]


def test_empty_chunks_of_an_avi_show_the_last_frame_again(tmp_path: Path) -> None:
    """FFmpeg writes one for each tick without a frame; header and index tell more frames than there are."""
    times = [0, 1, 2, 3, 10, 11, 12, 30, 31, 39]
    for name, codec in (("v.avi", "mpeg4"), ("b.avi", "libx264")):
        path = record(tmp_path / name, times, codec, Fraction(1, 25))
        with av.open(str(path)) as container:
            assert container.streams.video[0].frames == 40
        numbers, found, _ = read(path)
        assert numbers == list(range(10))
        assert found == [round(time / 25, 6) for time in times]
        check_on_screen(path, [Fraction(time, 25) for time in times], 25)
        check_on_screen(path, [Fraction(time, 25) for time in times], 10)


def test_empty_packets_show_the_last_frame_again(tmp_path: Path) -> None:
    """An empty packet is the end of the stream to FFmpeg's decoders; frames 3 and 4 are such."""
    path = tmp_path / "v.nut"
    with av.open(str(path), "w") as out:
        stream = out.add_stream("mpeg4", rate=25, options={"g": "1"})
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        packets = [packet for number in range(9) for packet in stream.encode(picture(number))] + stream.encode()
        for number, packet in enumerate(packets):
            written = av.Packet(b"" if number in {3, 4} else bytes(packet))
            written.stream, written.time_base, written.is_keyframe = stream, Fraction(1, 25), True
            written.pts = written.dts = number
            out.mux(written)
    numbers = [0, 1, 2, 5, 6, 7, 8]
    assert read(path)[:2] == (numbers, [round(number / 25, 6) for number in numbers])
    assert read(path, 25)[0] == [0, 1, 2, 2, 2, 5, 6, 7, 8]


def test_stamps_out_of_order_and_a_second_recording_in_the_same_file(tmp_path: Path) -> None:
    """Stamps as MEncoder wrote them do not move the clock back; a later start goes on where the first one ended."""
    path = tmp_path / "v.mkv"
    stamps = [0, 40, 120, 80, 160, 200, *(-5000 + 40 * n for n in range(5))]
    with av.open(str(path), "w", options={"avoid_negative_ts": "disabled"}) as out:
        stream = out.add_stream("ffv1", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        packets = []
        for number in range(len(stamps)):
            frame = picture(number)
            frame.pts, frame.time_base = number, Fraction(1, 25)
            packets += stream.encode(frame)
        for number, (packet, stamp) in enumerate(zip([*packets, *stream.encode()], stamps, strict=True)):
            packet.pts, packet.dts, packet.time_base = stamp + 6000, number, MS
            out.mux(packet)
    numbers, found, _ = read(path)
    assert numbers == list(range(len(stamps)))
    assert found == [0, 0.04, 0.12, 0.12, 0.16, 0.2, 0.24, 0.28, 0.32, 0.36, 0.4]
