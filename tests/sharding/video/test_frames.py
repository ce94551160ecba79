"""Whole videos through `open_video`: containers, codecs, rates, sizes, and what they may cost."""

import hashlib
import io
import os
import struct
import subprocess
import sys
import zlib
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import simplejpeg
from PIL import Image

from pclkd.sharding.video.frames import UnreadableVideoError, encode_planes, open_pixels, open_planes, open_video
from pclkd.sharding.video.settings import PackSettings

SMALL = PackSettings(32, 40)


def grey(level: int, height: int = 48, width: int = 64) -> list[np.ndarray]:
    """A flat YUV frame of a given luma."""
    return [np.full((height, width), level, np.uint8)] + 2 * [
        np.full(((height + 1) // 2, (width + 1) // 2), 128, np.uint8)
    ]


def levels(path: Path, settings: PackSettings = SMALL) -> list[int]:
    """The luma that each stored frame had in the source."""
    with open_planes(path, settings) as video:
        return [round(16 + planes[0].mean() * 219 / 255) for planes in video.frames]


def jpegs(path: Path, settings: PackSettings = SMALL) -> list[bytes]:
    with open_video(path, settings) as video:
        return list(video.frames)


@pytest.mark.parametrize(
    ("suffix", "codec", "pixels"),
    [
        ("avi", "mpeg4", "yuv420p"),
        ("avi", "mjpeg", "yuvj420p"),
        ("mp4", "libx264", "yuv420p"),
        ("mov", "libx264", "yuv420p"),
        ("mov", "mpeg4", "yuv420p"),
        ("mkv", "ffv1", "yuv420p"),
        ("mkv", "libx265", "yuv420p"),
        ("webm", "libvpx", "yuv420p"),
        ("webm", "libvpx-vp9", "yuv420p"),
        ("mp4", "libsvtav1", "yuv420p"),
    ],
)
def test_containers_and_codecs(write_video, tmp_path: Path, suffix: str, codec: str, pixels: str) -> None:
    shown = [20 + 9 * n for n in range(20)]
    full = pixels == "yuvj420p"
    frames = [grey(round((level - 16) * 255 / 219) if full else level, 96, 128) for level in shown]
    options = {"libvpx": {"crf": "4", "b": "2M"}, "libx265": {"x265-params": "log-level=none"}}.get(codec, {})
    path = write_video(tmp_path / f"v.{suffix}", frames, codec=codec, pixels=pixels, options=options)
    with open_video(path, SMALL) as video:
        assert video.fps == 25
    assert np.abs(np.array(levels(path)) - shown).max() <= 4


def test_stored_frames_are_baseline_with_standard_tables(synthetic_videos) -> None:
    """What hardware decoders take: SOF0, 8 bits, the Huffman tables of ITU-T T.81 annex K."""
    path = next(iter(sorted(synthetic_videos.videos.glob("*/*.avi"))))
    reference = io.BytesIO()
    Image.new("RGB", (16, 16)).save(reference, "JPEG", optimize=False)
    for chroma, sampling in (("4:2:0", 0x22), ("4:4:4", 0x11)):
        for jpeg in jpegs(path, PackSettings(33, 47, chroma=chroma, max_frames=2)):
            segments = dict(jpeg_segments(jpeg))
            assert segments.keys().isdisjoint({0xC1, 0xC2, 0xC9, 0xDD})  # extended, progressive, arithmetic, restarts
            assert struct.unpack(">BHHB", segments[0xC0][:6]) == (8, 33, 47, 3)
            assert segments[0xC0][7] == sampling
            assert huffman_tables(jpeg) == huffman_tables(reference.getvalue())


def jpeg_segments(jpeg: bytes) -> Iterator[tuple[int, bytes]]:
    at = 2
    while jpeg[at + 1] != 0xDA:
        length = int.from_bytes(jpeg[at + 2 : at + 4], "big")
        yield jpeg[at + 1], jpeg[at + 4 : at + 2 + length]
        at += 2 + length


def huffman_tables(jpeg: bytes) -> set[bytes]:
    tables = set()
    for marker, data in jpeg_segments(jpeg):
        while marker == 0xC4 and data:
            length = 17 + sum(data[1:17])
            tables.add(data[:length])
            data = data[length:]
    return tables


@pytest.mark.parametrize("quality", [1, 50, 90, 95])
def test_quality_is_the_usual_scale(synthetic_videos, quality: int) -> None:
    """The quantisation tables are those that Pillow, and so libjpeg, writes for this quality."""
    path = next(iter(sorted(synthetic_videos.videos.glob("*/*.avi"))))
    (ours,) = jpegs(path, PackSettings(32, 40, quality=quality, max_frames=1))
    reference = io.BytesIO()
    Image.new("RGB", (16, 16)).save(reference, "JPEG", quality=quality)
    assert Image.open(io.BytesIO(ours)).quantization == Image.open(reference).quantization


def test_jpeg_frames_are_the_pixels_but_for_compression(synthetic_videos) -> None:
    for path in sorted(synthetic_videos.videos.glob("*/*.avi"))[:3]:
        settings = PackSettings(64, 86, quality=95, chroma="4:4:4", max_frames=8)
        with open_pixels(path, settings) as video:
            pixels = list(video.frames)
        for jpeg, exact in zip(jpegs(path, settings), pixels, strict=True):
            error = np.mean((simplejpeg.decode_jpeg(jpeg).astype(float) - exact) ** 2)
            assert 10 * np.log10(255**2 / error) > 38


@pytest.mark.real_videos
def test_no_worse_than_through_rgb(ucf101_sample) -> None:
    """Against luma scaled in float, at the same quality: nearer than FFmpeg's RGB and Pillow's filter and encoder."""
    ours, theirs = [], []
    for path in sorted(ucf101_sample.videos.glob("*/*.avi"))[::12]:
        (jpeg,) = jpegs(path, PackSettings(max_frames=1))
        with av.open(str(path)) as container:
            frame = next(container.decode(video=0))
        luma = frame.to_ndarray()[:240].astype(np.float32)
        exact = Image.fromarray((luma - 16) * 255 / 219).resize((171, 128), Image.Resampling.BICUBIC)
        plain = io.BytesIO()
        frame.to_image().resize((171, 128), Image.Resampling.BICUBIC).save(plain, "JPEG", quality=90)
        for errors, data in ((ours, jpeg), (theirs, plain.getvalue())):
            stored = np.asarray(Image.open(io.BytesIO(data)).convert("L"), np.float32)
            errors.append(np.mean((stored - np.clip(np.asarray(exact), 0, 255)) ** 2))
    assert np.mean(ours) < np.mean(theirs)


@pytest.mark.parametrize(("height", "width"), [(48, 64), (47, 63), (17, 301), (2, 2), (1, 1), (3, 5)])
def test_any_size_in_any_size_out(write_video, tmp_path: Path, height: int, width: int) -> None:
    frame = grey(200, height, width)
    path = write_video(tmp_path / "v.mkv", [frame], codec="ffv1", options={"level": "1"})
    for settings in (PackSettings(33, 47), PackSettings(32, 40, chroma="4:4:4"), PackSettings(0, 0, 16)):
        with open_video(path, settings) as video:
            (jpeg,) = video.frames
            assert simplejpeg.decode_jpeg_header(jpeg)[:2] == (video.height, video.width)
        assert abs(int(simplejpeg.decode_jpeg(jpeg)[0, 0, 0]) - (200 - 16) * 255 / 219) < 3


def test_one_frame(write_video, tmp_path: Path) -> None:
    for suffix, codec in (("mp4", "libx264"), ("avi", "mpeg4"), ("webm", "libvpx-vp9"), ("mkv", "ffv1")):
        path = write_video(tmp_path / f"v.{suffix}", [grey(77)], codec=codec)
        assert len(jpegs(path)) == 1
        assert len(jpegs(path, PackSettings(32, 40, fps=1))) == 1


@pytest.mark.parametrize(
    ("suffix", "sound"), [("mp4", "aac"), ("avi", "mp2"), ("mkv", "pcm_s16le"), ("webm", "libopus")]
)
def test_sound_is_left_alone(write_video, tmp_path: Path, suffix: str, sound: str) -> None:
    codec = "libvpx" if suffix == "webm" else "mpeg4"
    silent = write_video(tmp_path / f"silent.{suffix}", [grey(20 + 9 * n) for n in range(20)], codec=codec)
    path = tmp_path / f"v.{suffix}"
    with av.open(str(silent)) as old, av.open(str(path), "w") as new:
        # The sound comes first in the file.
        other = new.add_stream(sound, rate=48_000, layout="mono")
        stream = new.add_stream_from_template(old.streams.video[0])
        noise = np.random.default_rng(0)
        for number in range(40):
            wave = noise.integers(-9999, 9999, (1, 960)).astype(np.int16)
            frame = av.AudioFrame.from_ndarray(wave, format="s16", layout="mono")
            frame.sample_rate, frame.pts = 48_000, 960 * number
            new.mux(other.encode(frame))
        new.mux(other.encode())
        for packet in old.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                new.mux(packet)
    assert jpegs(path) == jpegs(silent)


def test_variable_frame_rate_and_b_frames_come_in_decoder_order(write_video, tmp_path: Path) -> None:
    shown = [20 + 10 * n for n in range(20)]
    gaps = [0, 1, 2, 10, 11, 12, 13, 30, 31, 40, 41, 42, 43, 44, 60, 61, 62, 63, 64, 65]
    options = {"bf": "3", "b-adapt": "0", "crf": "4"}
    path = write_video(tmp_path / "v.mp4", [grey(level) for level in shown], times=gaps, options=options)
    with av.open(str(path)) as container:
        coded = [packet.pts for packet in container.demux(video=0) if packet.size]
    assert coded != sorted(coded), "the encoder made no B-frames"
    assert np.abs(np.array(levels(path)) - shown).max() <= 3


def test_other_frame_rates_and_limits(write_video, tmp_path: Path) -> None:
    shown = [20 + 8 * n for n in range(25)]
    path = write_video(tmp_path / "v.mp4", [grey(level) for level in shown], options={"qp": "0"})
    assert levels(path, PackSettings(32, 40, fps=10)) == [shown[n] for n in (0, 2, 5, 7, 10, 12, 15, 17, 20, 22)]
    assert levels(path, PackSettings(32, 40, fps=50)) == [level for level in shown for _ in range(2)]
    assert levels(path, PackSettings(32, 40, fps=10, max_frames=3)) == [shown[n] for n in (0, 2, 5)]
    assert levels(path, PackSettings(32, 40, max_frames=7)) == shown[:7]
    with open_video(path, PackSettings(32, 40, fps=10)) as video:
        assert video.fps == 10


def test_frames_beyond_the_limit_are_not_decoded(synthetic_videos, tmp_path: Path) -> None:
    raw = next(iter(sorted(synthetic_videos.videos.glob("*/*.avi")))).read_bytes()
    path = tmp_path / "v.avi"
    path.write_bytes(raw[: len(raw) // 2])
    assert len(jpegs(path, PackSettings(32, 40, max_frames=20))) == 20
    with pytest.raises(UnreadableVideoError, match="cut short"):
        jpegs(path, PackSettings(32, 40))


@pytest.mark.parametrize("codec", ["mjpeg", "libx264"])
def test_size_that_changes_in_mid_stream(tmp_path: Path, codec: str) -> None:
    """Frames are scaled alike, to a size that the first one tells."""
    path = tmp_path / "v.avi"
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25)
        stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        stream.height, stream.width = 48, 64
        # AVI keeps H.264 as it comes, with the size before every key frame.
        container.start_encoding()
        number = 0
        for height, width in ((48, 64), (96, 38), (240, 320)):
            encoder = av.CodecContext.create(codec, "w")
            encoder.height, encoder.width, encoder.pix_fmt = height, width, stream.pix_fmt
            encoder.time_base = Fraction(1, 25)
            encoder.options = {} if codec == "mjpeg" else {"tune": "zerolatency"}
            for _ in range(3):
                frame = av.VideoFrame.from_ndarray(np.full((height, width, 3), 150, np.uint8), format="rgb24")
                frame = frame.reformat(format=stream.pix_fmt)
                frame.pts = number
                for packet in encoder.encode(frame):
                    packet.stream = stream
                    packet.pts = packet.dts = number
                    container.mux(packet)
                number += 1
    for settings, size in ((PackSettings(30, 50), (30, 50)), (PackSettings(0, 0, 32), (32, 42))):
        with open_video(path, settings) as video:
            pictures = [simplejpeg.decode_jpeg(jpeg) for jpeg in video.frames]
        assert [picture.shape for picture in pictures] == 9 * [(*size, 3)]
        assert all(np.abs(picture.astype(int) - 150).max() < 6 for picture in pictures)


def test_sideways_video_is_sized_upright(write_video, tmp_path: Path) -> None:
    path = write_video(tmp_path / "v.mp4", [grey(99, 90, 160)] * 3)
    raw = bytearray(path.read_bytes())
    start = raw.index(b"tkhd") + 44
    raw[start : start + 20] = struct.pack(">5i", 0, 1 << 16, 0, -1 << 16, 0)
    path.write_bytes(raw)
    with open_video(path, PackSettings(0, 0, 32)) as video:
        assert (video.height, video.width) == (56, 32)
        assert {simplejpeg.decode_jpeg_header(jpeg)[:2] for jpeg in video.frames} == {(56, 32)}


def test_odd_file_names(write_video, tmp_path: Path) -> None:
    folder = tmp_path / os.fsdecode(b"caf\xe9 \xff")
    folder.mkdir()
    plain = write_video(tmp_path / "v.mp4", [grey(50)] * 4)
    for name in ("a:b%d.mp4", "-i.mp4", "new\nline.mp4", os.fsdecode(b"\xfe.mp4"), "日本.mp4"):
        path = folder / name
        path.write_bytes(plain.read_bytes())
        assert len(jpegs(path)) == 4


def test_same_bytes_in_another_process(synthetic_videos) -> None:
    path = next(iter(sorted(synthetic_videos.videos.glob("*/*.avi"))))
    code = (
        "import sys, hashlib; from pathlib import Path; from pclkd.sharding.video.frames import open_video;"
        "from pclkd.sharding.shards.manifest import PackSettings\n"
        "with open_video(Path(sys.argv[1]), PackSettings(33, 47)) as video:\n"
        "    print(hashlib.sha256(b''.join(video.frames)).hexdigest())"
    )
    other = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True)
    here = hashlib.sha256(b"".join(jpegs(path, PackSettings(33, 47)))).hexdigest()
    assert other.stdout.strip() == here


def test_planes_are_what_is_encoded(synthetic_videos) -> None:
    path = next(iter(sorted(synthetic_videos.videos.glob("*/*.avi"))))
    with open_planes(path, SMALL) as video:
        again = [encode_planes(planes, SMALL.quality) for planes in video.frames]
    assert again == jpegs(path)


@pytest.mark.parametrize("honest_header", [False, True])
def test_huge_frames_are_refused_before_memory_is_taken(tmp_path: Path, honest_header: bool) -> None:
    """A grey PNG of 15,000 x 15,000 pixels takes 225 MB, 1 MB in its file; FFmpeg itself allows it."""
    side = 15_000
    rows = zlib.compressobj(1)
    data = b"".join([*(rows.compress(bytes(side + 1)) for _ in range(side)), rows.flush()])
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)), (b"IDAT", data), (b"IEND", b"")]
    path = tmp_path / "v.avi"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("png", rate=25)
        stream.height, stream.width, stream.pix_fmt = 48, 64, "gray"
        container.start_encoding()
        frame = av.VideoFrame.from_ndarray(np.full((48, 64), 100, np.uint8), format="gray")
        if not honest_header:
            container.mux(stream.encode(frame))
        png = b"\x89PNG\r\n\x1a\n" + b"".join(
            struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
            for name, body in chunks
        )
        packet = av.Packet(png)
        packet.stream, packet.pts, packet.dts, packet.time_base = stream, 1, 1, Fraction(1, 25)
        packet.is_keyframe = True
        container.mux(packet)
    if honest_header:
        raw = bytearray(path.read_bytes())
        at = raw.index(b"strf") + 8
        raw[at + 4 : at + 12] = struct.pack("<ii", side, side)
        path.write_bytes(raw)
    run = subprocess.run([sys.executable, "-c", COST, str(path)], capture_output=True, text=True, check=True)
    reason, grown_kib = run.stdout.strip().split("\n")
    assert ("8K" if honest_header else "frame 1") in reason
    assert int(grown_kib) < 40_000


COST = """
import sys, resource
from pathlib import Path
from pclkd.sharding.video.frames import UnreadableVideoError, open_video
from pclkd.sharding.shards.manifest import PackSettings

before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    with open_video(Path(sys.argv[1]), PackSettings()) as video:
        list(video.frames)
except UnreadableVideoError as error:
    print(error)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def test_rates_that_cannot_be_brought_to_another(write_video, synthetic_videos, tmp_path: Path) -> None:
    path = write_video(tmp_path / "v.mp4", [grey(50)] * 3, times=[0, 1000, 20_000], rate=25)
    with pytest.raises(UnreadableVideoError, match=r"stays on frame 1 for 760 s, which cannot be brought to 30 frames"):
        jpegs(path, PackSettings(32, 40, fps=30))
    assert len(jpegs(path)) == 3
    raw = bytearray(next(iter(sorted(synthetic_videos.videos.glob("*/*.avi")))).read_bytes())
    at = raw.index(b"strh") + 8 + 20  # scale and rate of the stream
    raw[at : at + 8] = struct.pack("<II", 1000, 25)
    path = tmp_path / "slow.avi"
    path.write_bytes(raw)
    with pytest.raises(UnreadableVideoError, match=r"tells 0\.025 frames a second, which cannot be brought to 30"):
        jpegs(path, PackSettings(32, 40, fps=30))


MEMORY = """
import sys
from pathlib import Path
from pclkd.sharding.video.frames import open_video
from pclkd.sharding.shards.manifest import PackSettings

def resident():
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmRSS"))

with open_video(Path(sys.argv[1]), PackSettings()) as video:
    for number, jpeg in enumerate(video.frames):
        if number in (100, 500):
            print(resident())
        if number == 500:
            break
"""


def test_memory_over_a_two_hour_video(tmp_path: Path) -> None:
    """2 hours of 1080p, 180,000 frames with their whole index: one group of pictures, muxed 720 times.

    500 frames are decoded: more than any decoder holds.
    """
    path = tmp_path / "v.mp4"
    noise = np.random.default_rng(0)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"preset": "ultrafast", "g": "250", "bf": "2"})
        stream.height, stream.width, stream.pix_fmt = 1080, 1920, "yuv420p"
        packets = []
        base = noise.integers(0, 255, (68, 120, 3), dtype=np.uint8).repeat(16, 0).repeat(16, 1)[:1080]
        for number in range(250):
            frame = av.VideoFrame.from_ndarray(np.roll(base, min(number, 8), axis=1), format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, 25)
            packets += [(bytes(p), p.pts, p.dts, p.is_keyframe) for p in stream.encode(frame)]
        packets += [(bytes(p), p.pts, p.dts, p.is_keyframe) for p in stream.encode()]
        for turn in range(720):
            for data, pts, dts, key in packets:
                packet = av.Packet(data)
                packet.stream, packet.time_base, packet.is_keyframe = stream, Fraction(1, 25), key
                packet.pts, packet.dts = pts + 250 * turn, dts + 250 * turn
                container.mux(packet)
    with av.open(str(path)) as container:
        assert container.streams.video[0].frames == 180_000
    run = subprocess.run([sys.executable, "-c", MEMORY, str(path)], capture_output=True, text=True, check=True)
    early, late = (int(kib) / 1024 for kib in run.stdout.split())
    assert late < 400
    assert late - early < 8
