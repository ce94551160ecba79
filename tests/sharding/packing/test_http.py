"""Videos from a web server: a real one on this machine."""

import os
import resource
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from pclkd.sharding import InputError, PackPart, finish_set, pack_part, pack_videos, plan_packing
from pclkd.sharding.packing.pack import PackPlan

pytest.importorskip("aiohttp")

SMALL = {"height": 32, "width": 43, "quality": 50, "max_frames": 8}


class Server(ThreadingHTTPServer):
    """Gives the files of a folder, with a status of its own for some; tells no versions, and lists nothing."""

    daemon_threads = True

    def __init__(self, folder: Path) -> None:
        super().__init__(("127.0.0.1", 0), _Answer)
        self.folder = folder
        self.answers: dict[str, int] = {}
        self.may_answer = threading.Event()
        self.may_answer.set()


class _Answer(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        self.server.may_answer.wait()
        path = self.server.folder / self.path.strip("/")
        self.send_response(self.server.answers.get(path.name, 200 if path.is_file() else 403))
        self.end_headers()
        if path.is_file():
            self.wfile.write(path.read_bytes())

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server(synthetic_videos) -> Iterator[Server]:
    with Server(synthetic_videos.videos) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.may_answer.set()
        server.shutdown()


@pytest.fixture
def plan(server: Server, tmp_path: Path) -> PackPlan:
    table = tmp_path / "videos.csv"
    names = [path.relative_to(server.folder) for path in sorted(server.folder.glob("*/*.avi"))]
    url = f"http://127.0.0.1:{server.server_port}"
    table.write_text("\n".join(["path,label", *(f"{url}/{name},{name.parent}" for name in names)]))
    return plan_packing(table, **SMALL)


def test_a_video_that_the_server_refuses_is_left_out(server: Server, plan: PackPlan, tmp_path: Path) -> None:
    server.answers["v_Rotate_g01_c01.avi"] = 403
    report = pack_videos(plan, tmp_path / "out", workers=1)
    (left_out,) = report.quarantined
    assert left_out.video.endswith("v_Rotate_g01_c01.avi")
    assert left_out.reason == "cannot be fetched (403 Forbidden)"


@pytest.mark.parametrize("status", [429, 503])
def test_a_server_that_cannot_answer_now_stops_the_run(server: Server, plan: PackPlan, tmp_path, status: int) -> None:
    server.answers["v_Rotate_g01_c01.avi"] = status
    with pytest.raises(InputError, match=rf"v_Rotate_g01_c01\.avi cannot be reached \({status}"):
        pack_videos(plan, tmp_path / "out", workers=1)
    server.answers.clear()
    assert pack_videos(plan, tmp_path / "out", workers=1).quarantined == ()


def test_what_has_no_version_is_compared(server: Server, plan: PackPlan, tmp_path: Path) -> None:
    out = tmp_path / "out"
    for part in (PackPart(1, 2), PackPart(2, 2)):
        made = pack_part(plan, out, part, workers=1).made
        again = pack_part(plan, out, part, workers=1)
        assert (again.kept, again.made) == (made, 0)
    finish_set(out)
    assert pack_videos(plan, out, workers=1).complete
    server.answers["v_Rotate_g01_c01.avi"] = 403
    with pytest.raises(InputError, match="1 of the 4 shards would change"):
        pack_videos(plan, out, workers=1)


def packing(tmp_path: Path, *, most_bytes: int = resource.RLIM_INFINITY) -> "subprocess.Popen[str]":
    """The command, with a folder of its own for temporary files."""
    (tmp_path / "tmp").mkdir(exist_ok=True)
    program = "from pclkd.sharding.cli import main; main()"
    command = ["pack", tmp_path / "videos.csv", tmp_path / "out", "--size=32x43", "--max-frames=8", "--workers=2"]
    return subprocess.Popen(
        [sys.executable, "-c", program, *map(str, command)],
        env={**os.environ, "TMPDIR": str(tmp_path / "tmp")},
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (most_bytes, most_bytes)),
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
    )


@pytest.mark.usefixtures("plan")
def test_what_a_killed_run_had_fetched_goes_with_the_next_one(server: Server, tmp_path: Path, until) -> None:
    server.may_answer.clear()
    process = packing(tmp_path)
    until(lambda: list(tmp_path.glob("tmp/pclkd-pack-*/pclkd-source-*")), process)
    process.kill()
    process.communicate()
    assert list((tmp_path / "tmp").iterdir())
    server.may_answer.set()
    process = packing(tmp_path)
    assert process.communicate()[1] == ""
    assert process.returncode == 0
    assert list((tmp_path / "tmp").iterdir()) == []


@pytest.mark.usefixtures("plan")
def test_the_folder_that_is_full_is_named(server: Server, tmp_path: Path) -> None:
    smallest = min(path.stat().st_size for path in server.folder.glob("*/*.avi"))
    process = packing(tmp_path, most_bytes=smallest - 1)
    (line,) = process.communicate()[1].splitlines()
    assert line.startswith(f"error: File too large ({tmp_path / 'tmp' / 'pclkd-pack-'}")
    assert process.returncode == 2
