"""Some 250 broken, odd and hostile files made from real videos, packed in one go by the real command line."""

import itertools
import json
import os
import random
import shutil
import socket
import struct
import subprocess
import sys
import zipfile
from pathlib import Path

import av
import numpy as np
import pytest
from click.testing import CliRunner

from pclkd.sharding.cli import main
from pclkd.sharding.video.decode import open_container

# The command line, and what its largest process took, in KiB, as the last word on standard error.
MEASURED = """
import resource, subprocess, sys
program = [sys.executable, "-c", "from pclkd.sharding.cli import main; main()", *sys.argv[1:]]
code = subprocess.run(program).returncode
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss, file=sys.stderr)
sys.exit(code)
"""
# Root may read everything, unless it gives up the right to.
UNPRIVILEGED = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"] if shutil.which("setpriv") else []
PROGRAM = [*(UNPRIVILEGED if os.geteuid() == 0 else []), sys.executable, "-c", MEASURED]
# What must become of a case: the beginning of the reason, PACKED, or EITHER where that is the decoder's to say.
PACKED, EITHER = "packed", None


class Corpus:
    """A folder that is being filled, and what must become of each file in it, by file name."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.expected: dict[str, str | None] = {}

    def path(self, what: str, expected: str | None, suffix: str = ".avi") -> Path:
        name = f"{len(self.expected):03d}_{what}{suffix}"
        self.expected[name] = expected
        return self.folder / name

    def add(self, what: str, data: bytes, expected: str | None = EITHER) -> None:
        self.path(what, expected).write_bytes(data)


def changed(data: bytes, place: int, new: bytes) -> bytes:
    return data[:place] + new + data[place + len(new) :]


def flipped(data: bytes, places: list[int], random_bits: random.Random) -> bytes:
    damaged = bytearray(data)
    for place in places:
        damaged[place] ^= 1 << random_bits.randrange(8)
    return bytes(damaged)


def add_flips(corpus: Corpus, data: bytes, seed: int) -> None:
    draw = random.Random(seed)
    movi, index = data.index(b"movi"), data.rindex(b"idx1")
    regions = {"riff": (0, 12), "hdrl": (12, 220), "movi_head": (movi - 8, movi + 16), "idx1": (index, len(data))}
    for name, (start, stop) in regions.items():
        for _ in range(6):
            corpus.add(f"flip_{name}", flipped(data, [draw.randrange(start, stop)], draw))
    for _ in range(10):
        corpus.add("flip_data", flipped(data, [draw.randrange(movi, index)], draw))
    for share in (1e-5, 1e-4, 1e-3, 1e-2):
        many = [draw.randrange(len(data)) for _ in range(max(2, round(share * len(data))))]
        corpus.add(f"flips_{share}", flipped(data, many, draw))
    everything = [draw.randrange(movi + 4, index) for _ in range(len(data) // 2)]
    corpus.add("flips_everywhere", flipped(data, everything, draw))


def add_cuts(corpus: Corpus, data: bytes) -> None:
    movi, index = data.index(b"movi"), data.rindex(b"idx1")
    for length in (1, 4, 8, 11, 12, 16, 24, 40, 88, 110, 170, 200, movi - 4, movi + 4):
        corpus.add(f"cut_at_{length}", data[:length], "")
    corpus.add("cut_in_first_frame", data[: movi + 200], "")
    for percent in (10, 25, 50, 75):
        corpus.add(f"cut_at_{percent}_percent", data[: len(data) * percent // 100], "is cut short")
    # All frames are there: the index alone is gone, and nobody needs it.
    for name, length in (("idx1", index), ("in_idx1", index + 100), ("last_byte", len(data) - 1)):
        corpus.add(f"cut_{name}", data[:length], PACKED)
    corpus.add("without_its_beginning", data[movi:], "")
    corpus.add("without_its_middle", data[: len(data) // 3] + data[len(data) // 2 :])
    corpus.add("followed_by_rubbish", data + os.urandom(1000), PACKED)
    corpus.add("twice", data + data)


def add_holes(corpus: Corpus, data: bytes) -> None:
    movi, index = data.index(b"movi"), data.rindex(b"idx1")
    size = index - movi
    holes = {
        "riff": (0, 12),
        "avih": (24, 88),
        "strh": (100, 164),
        "strf": (164, 212),
        "headers": (12, movi),
        "first_frame": (movi + 4, movi + 8000),
        "middle": (movi + size // 2, movi + size // 2 + size // 10),
        "end": (index - size // 10, index),
        "idx1": (index, len(data)),
        "all": (0, len(data)),
        "frames": (movi + 4, len(data)),
    }
    gone = {"riff", "headers", "all", "frames"}
    for name, (start, stop) in holes.items():
        corpus.add(f"zeros_{name}", changed(data, start, bytes(stop - start)), "" if name in gone else EITHER)


def add_lies(corpus: Corpus, data: bytes) -> None:
    """Headers that claim what is not so."""
    avih, strh, strf = data.index(b"avih") + 8, data.index(b"strh") + 8, data.index(b"strf") + 8
    movi = data.index(b"movi")

    def number(place: int, value: int) -> bytes:
        return changed(data, place, struct.pack("<I", value & 0xFFFFFFFF))

    frames = struct.pack("<I", 10**9)
    corpus.add("billion_frames", changed(changed(data, avih + 16, frames), strh + 32, frames), PACKED)
    side = struct.pack("<II", 60000, 60000)
    corpus.add("60000_pixels", changed(changed(data, avih + 32, side), strf + 4, side))
    for name, place in (("frames", avih + 16), ("width", avih + 32), ("height", avih + 36), ("streams", avih + 24)):
        for value in (0, 1, 2**31, -1):
            corpus.add(f"avih_{name}_{value}", number(place, value))
    for name, place in (("scale", strh + 20), ("rate", strh + 24), ("start", strh + 28), ("length", strh + 32)):
        for value in (0, 1, 2**31, -1):
            corpus.add(f"strh_{name}_{value}", number(place, value))
    for name, place in (("size", strf), ("width", strf + 4), ("height", strf + 8), ("bits", strf + 14)):
        for value in (0, 1, 60000, 2**31, -1):
            corpus.add(f"strf_{name}_{value}", number(place, value))
    for name, place in (("riff", 4), ("hdrl", 16), ("movi", movi - 4), ("frame", movi + 8)):
        for value in (0, 1, 2**31, -1):
            corpus.add(f"size_{name}_{value}", number(place, value))
    for codec in (b"MJPG", b"H264", b"xxxx", b"FFV1", b"VP80"):
        corpus.add(f"codec_{codec.decode()}", changed(changed(data, strh + 4, codec), strf + 16, codec))
    corpus.add("sound_type", changed(data, strh, b"auds"), "")
    # Here the container's size counts: the codec has none of its own.
    raw = changed(changed(data, strh + 4, b"DIB "), strf + 16, bytes(4))
    corpus.add("raw_60000_pixels", changed(changed(raw, avih + 32, side), strf + 4, side), "")


def add_absurd_pictures(corpus: Corpus, video: Path) -> None:
    """JPEG pictures that claim a size which they have not."""
    whole = corpus.path("mjpeg", PACKED)
    with open_container(video) as source, av.open(str(whole), "w") as out:
        stream = out.add_stream("mjpeg", rate=25, options={"strict": "unofficial"})
        stream.width, stream.height, stream.pix_fmt = 320, 240, "yuv420p"
        for frame in itertools.islice(source.decode(video=0), 10):
            frame.pts, frame.pict_type = None, 0
            out.mux(stream.encode(frame.reformat(format="yuv420p")))
        out.mux(stream.encode(None))
    data = whole.read_bytes()
    start = b"\xff\xc0\x00\x11\x08"  # of the segment that holds height and width
    for height, width, expected in ((60000, 60000, ""), (0, 0, ""), (1, 1, EITHER), (65535, 16, EITHER)):
        size = struct.pack(">HH", height, width)
        pieces = data.split(start)
        claimed = start.join([pieces[0], *(size + piece[4:] for piece in pieces[1:])])
        corpus.add(f"mjpeg_{height}x{width}", claimed, expected)


def add_swaps(corpus: Corpus, videos: list[bytes]) -> None:
    for one, first in enumerate(videos):
        for two, second in enumerate(videos):
            if one != two:
                head, data = first[: first.index(b"movi")], second[second.index(b"movi") :]
                corpus.add(f"head_of_{one}_data_of_{two}", head + data)
                half = len(first) // 2
                corpus.add(f"half_of_{one}_half_of_{two}", first[:half] + second[half:])


def add_other_files(corpus: Corpus, video: Path, elsewhere: Path) -> None:
    """What is not a video file, whatever its name says."""
    no = "is no video"
    corpus.add("empty", b"", "is empty")
    corpus.add("text", b"not a video\n" * 100, "is a text, no video")
    corpus.add("rubbish", random.Random(3).randbytes(50_000), no)
    corpus.add("riff_rubbish", b"RIFF\xff\xff\xff\xffAVI " + random.Random(4).randbytes(50_000), "")
    corpus.add("script", b"#!/bin/sh\ntouch /tmp/executed\n", "is a text")
    # Play lists must not lead to other files.
    corpus.add("ffconcat", f"ffconcat version 1.0\nfile '{video}'\n".encode(), "is a playlist")
    corpus.add("playlist", f"#EXTM3U\n#EXTINF:1,\n{video.as_uri()}\n#EXT-X-ENDLIST\n".encode(), "is a playlist")
    corpus.add("session", f"v=0\no=- 0 0 IN IP4 127.0.0.1\nm=video 9 RTP/AVP 96\n# {video}\n".encode(), "is a text")
    with zipfile.ZipFile(corpus.path("zip", "is a ZIP archive"), "w") as file:
        file.write(video, "v.avi")
    corpus.path("folder", "is a folder").mkdir()
    corpus.path("link_to_folder", "is a folder").symlink_to(elsewhere)
    os.mkfifo(corpus.path("fifo", "is not a regular file"))
    corpus.path("link_to_device", "is not a regular file").symlink_to("/dev/zero")
    corpus.path("broken_link", "is a link that leads nowhere").symlink_to(elsewhere / "nobody.avi")
    corpus.path("link", PACKED).symlink_to(video)
    one, two = (corpus.path("loop", "is a link that leads nowhere") for _ in range(2))
    one.symlink_to(two)
    two.symlink_to(one)
    listener = socket.socket(socket.AF_UNIX)
    short = Path("/proc/self/fd") / str(os.open(corpus.folder, os.O_RDONLY))  # a socket's path is 108 bytes at most
    listener.bind(str(short / corpus.path("socket", "is not a regular file").name))
    locked = corpus.path("no_permission", "may not be read" if os.geteuid() or UNPRIVILEGED else PACKED)
    locked.write_bytes(video.read_bytes())
    locked.chmod(0)
    with corpus.path("sparse", "").open("wb") as file:
        file.write(video.read_bytes()[:8000])
        file.truncate(50_000_000)  # FFmpeg looks for the next frame at 60 MB/s


def add_containers(corpus: Corpus, video: Path) -> None:
    """The same stream in other containers, under a name of their own and as .avi, whole and damaged."""
    draw = random.Random(11)
    for suffix in (".mp4", ".mkv", ".mov"):
        remux(video, copy := corpus.path(f"whole_{suffix[1:]}", PACKED, suffix))
        data = copy.read_bytes()
        corpus.add(f"whole_{suffix[1:]}", data, PACKED)
        for percent in (1, 10, 50, 90):
            corpus.path(f"cut_at_{percent}_percent", EITHER, suffix).write_bytes(data[: len(data) * percent // 100])
        for share in (2, 20, 200):
            places = [draw.randrange(len(data)) for _ in range(share)]
            corpus.path(f"flips_{share}", EITHER, suffix).write_bytes(flipped(data, places, draw))
    for suffix in (".avi", ".mkv"):
        sound(corpus.path("sound_alone", "holds no video stream", suffix))


def remux(video: Path, target: Path) -> None:
    with open_container(video) as source, av.open(str(target), "w") as out:
        stream = out.add_stream_from_template(source.streams.video[0])
        for number, packet in enumerate(source.demux(video=0)):
            if packet.size:
                packet.stream, packet.pts, packet.dts = stream, number, number
                out.mux(packet)


def sound(target: Path) -> None:
    with av.open(str(target), "w") as out:
        stream = out.add_stream("pcm_s16le", rate=8000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.int16), format="s16", layout="mono")
        frame.sample_rate = 8000
        out.mux([*stream.encode(frame), *stream.encode(None)])


@pytest.fixture(scope="module")
def corpus(ucf101_sample, tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    root = tmp_path_factory.mktemp("corpus")
    (root / "UCF-101" / "Punch").mkdir(parents=True)
    made = Corpus(root / "UCF-101" / "Punch")
    # The three shortest of the sample; the third has sound.
    names = ("Punch/v_Punch_g01_c03.avi", "Punch/v_Punch_g02_c03.avi", "ApplyEyeMakeup/v_ApplyEyeMakeup_g01_c02.avi")
    paths = [ucf101_sample.videos / name for name in names]
    videos = [path.read_bytes() for path in paths]
    for number, video in enumerate(videos):
        made.add(f"whole_{number}", video, PACKED)
    for number, video in enumerate(videos[:2]):
        add_flips(made, video, seed=number)
        add_cuts(made, video)
        add_holes(made, video)
    add_lies(made, videos[0])
    add_absurd_pictures(made, paths[0])
    add_swaps(made, videos)
    add_other_files(made, paths[0], root)
    add_containers(made, paths[0])
    return made


def pack(ucf101_sample, videos: Path, out: Path, *options: str) -> tuple[dict, dict[str, str], int]:
    """Pack with the command line; return its summary, why files were left out, and its largest process, in bytes."""
    lists = ["--splits", ucf101_sample.splits, "--allow-empty-split"]
    arguments = ["pack", videos, out, *lists, "--size=32x43", "--json", *options]
    done = subprocess.run([*PROGRAM, *map(str, arguments)], capture_output=True, text=True, check=False)
    assert done.returncode == 3, done.stderr
    assert "Traceback" not in done.stderr
    assert not list(out.rglob("*.part"))
    summary = json.loads(done.stdout)
    reasons = {video["video"].rpartition("/")[2]: video["reason"] for video in summary["quarantined"]}
    return summary, reasons, 1024 * int(done.stderr.split()[-1])


def test_every_case_ends_packed_or_quarantined(corpus: Corpus, ucf101_sample, tmp_path: Path) -> None:
    files = sorted(path.name for path in corpus.folder.iterdir())
    assert files == sorted(corpus.expected)
    assert len(files) >= 200
    fingerprints = set()
    for workers in (1, 2):
        out = tmp_path / f"out{workers}"
        summary, reasons, memory = pack(ucf101_sample, corpus.folder.parent, out, f"--workers={workers}")
        assert summary["videos"] + len(reasons) == len(files)
        assert memory < 500e6
        assert sum(path.stat().st_size for path in out.rglob("*")) < 60e6
        fingerprints.add(summary["fingerprint"])
    assert len(fingerprints) == 1
    wrong = {}
    for name, expected in corpus.expected.items():
        got = reasons.get(name, PACKED)
        packed = got == PACKED
        if expected is not EITHER and (packed != (expected == PACKED) or not (packed or got.startswith(expected))):
            wrong[name] = f"{got}, expected {expected or 'any reason'}"
    assert not wrong
    assert CliRunner().invoke(main, ["verify", str(tmp_path / "out2")]).exit_code == 0
