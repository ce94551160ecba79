"""Videos from a web server: a real one on this machine."""

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


class _Answer(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
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
