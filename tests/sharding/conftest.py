"""A packing run that comes to a stop by itself, so that what kills it always meets the same state."""

import os
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

OPENER = """
    import os
    import time
    from contextlib import contextmanager
    from pathlib import Path

    from pclkd.sharding.video.frames import open_video


    @contextmanager
    def the_first_is_held(path, settings):
        try:
            Path(os.environ["PCLKD_TEST_HELD"]).touch(exist_ok=False)
        except FileExistsError:
            with open_video(path, settings) as video:
                yield video
        else:
            time.sleep(10_000)
"""
PROGRAM = """
import sys
from opener_that_holds import the_first_is_held
from pclkd.sharding import pack_videos, plan_packing
videos, lists, out, height, width = sys.argv[1:]
plan = plan_packing(videos, lists, height=int(height), width=int(width))
pack_videos(plan, out, workers=2, opener=the_first_is_held)
"""
HeldPacking = Callable[[object, int, int, Callable[[], object]], "subprocess.Popen[bytes]"]


@pytest.fixture
def held_packing(synthetic_videos: Any, until: Any, tmp_path: Path) -> Iterator[HeldPacking]:
    """`held_packing(out, height, width, reached)` packs the synthetic videos there in a process of its own.

    It never ends: of its two workers one keeps the first video in hand, while the other makes all other shards. The
    function returns the process when that is so and `reached()` is true.
    """
    held, started = tmp_path / "held", []
    (tmp_path / "opener_that_holds.py").write_text(textwrap.dedent(OPENER))
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)
    environment = {**os.environ, "PCLKD_TEST_HELD": str(held), "PYTHONPATH": path}

    def start(out: object, height: int, width: int, reached: Callable[[], object]) -> "subprocess.Popen[bytes]":
        arguments = map(str, (synthetic_videos.videos, synthetic_videos.splits, out, height, width))
        process = subprocess.Popen([sys.executable, "-c", PROGRAM, *arguments], env=environment)
        started.append(process)
        until(lambda: held.exists() and reached(), process)
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()
