"""Files that would take all memory, or all time, cost themselves alone."""

import json
import struct
import subprocess
import sys
from pathlib import Path

import av
from click.testing import CliRunner

from pclkd.sharding.cli import main

# The command line, and what its largest process took, in KiB, as the last word on standard error.
MEASURED = """
import resource, subprocess, sys
program = [sys.executable, "-c", "from pclkd.sharding.cli import main; main()", *sys.argv[1:]]
code = subprocess.run(program).returncode
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss, file=sys.stderr)
sys.exit(code)
"""


def as_mp4(video: Path, target: Path) -> bytes:
    with av.open(str(video)) as source, av.open(str(target), "w") as out:
        stream = out.add_stream_from_template(source.streams.video[0])
        for number, packet in enumerate(source.demux(video=0)):
            if packet.size:
                packet.stream, packet.pts, packet.dts = stream, number, number
                out.mux(packet)
    return target.read_bytes()


def with_endless_table(mp4: bytes) -> bytes:
    """Say of 60 million frames where each lies, in one entry: FFmpeg's own table of them takes 4 GB."""
    count = 60_000_000
    for box, numbers in {b"stsz": (1, count), b"stts": (1, count, 512), b"stsc": (1, 1, count, 1)}.items():
        place = mp4.index(box) + 8
        mp4 = mp4[:place] + struct.pack(f">{len(numbers)}I", *numbers) + mp4[place + 4 * len(numbers) :]
    return mp4


def test_time_and_memory_are_bounded(synthetic_videos, tmp_path: Path) -> None:
    folder = tmp_path / "UCF-101" / "Rotate"
    folder.mkdir(parents=True)
    video = synthetic_videos.videos / "Rotate" / "v_Rotate_g01_c01.avi"
    (folder / "table.mp4").write_bytes(with_endless_table(as_mp4(video, folder / "whole.mp4")))
    # FFmpeg looks for the next frame at some 60 MB/s: a minute in this hole.
    with (folder / "hole.avi").open("wb") as file:
        file.write(video.read_bytes()[: video.stat().st_size // 2])
        file.truncate(4 * 10**9)
    arguments = ["pack", folder.parent, tmp_path / "out", "--size=32x43", "--json"]
    command = [sys.executable, "-c", MEASURED, *map(str, arguments), "--file-timeout=6", "--workers=2"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 3, done.stderr
    summary = json.loads(done.stdout)
    assert summary["videos"] == 1
    reasons = {video["video"]: video["reason"] for video in summary["quarantined"]}
    assert set(reasons) == {"Rotate/hole.avi", "Rotate/table.mp4"}
    assert reasons["Rotate/hole.avi"] == "hung: no frame in 6 s"
    assert 1024 * int(done.stderr.split()[-1]) < 2.5e9
    assert CliRunner().invoke(main, ["verify", str(tmp_path / "out")]).exit_code == 0
