"""A Ray cluster of two workers on this machine: the same bytes as a local run, also when one of them is killed."""

import os
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import psutil
import pytest

from pclkd.sharding import InputError, pack_videos, plan_packing

pytest.importorskip("ray")

SMALL = {"height": 32, "width": 43, "quality": 50, "max_frames": 8, "videos_per_shard": 2}

OPENER = """
    import os
    import time
    from contextlib import contextmanager
    from pathlib import Path

    from pclkd.sharding.video.frames import EncodedVideo, open_video


    def first_of_all(mark):
        try:
            (mark.parent / "held").mkdir()
        except FileExistsError:
            return False
        (mark.parent / "held" / mark.name).touch()
        return True


    @contextmanager
    def the_first_waits_to_be_killed(path, settings):
        mark = Path(os.environ["PCLKD_TEST_MARKS"]) / f"{path.stem}.{os.getpid()}"
        mark.touch()
        with open_video(path, settings) as video:
            def frames():
                for number, frame in enumerate(video.frames):
                    if number == 3 and first_of_all(mark):
                        time.sleep(10_000)
                    yield frame
            yield EncodedVideo(video.fps, video.height, video.width, frames())


    @contextmanager
    def fails_to_write(path, settings):
        raise OSError(28, "No space left on device", "/somewhere")
        yield
"""


@pytest.fixture(scope="module")
def opener(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ModuleType]:
    """A module that workers of the cluster can import too, and a folder for the marks of its openers."""
    folder = tmp_path_factory.mktemp("opener")
    (folder / "opener_for_ray.py").write_text(textwrap.dedent(OPENER))
    (folder / "marks").mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PCLKD_TEST_MARKS", str(folder / "marks"))
        patch.setenv("PYTHONPATH", os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep))
        patch.syspath_prepend(str(folder))
        patch.delitem(sys.modules, "opener_for_ray", raising=False)
        import opener_for_ray

        yield opener_for_ray


def started(begin: Callable[[], Any], attempts: int = 4) -> Any:
    """Ray gives a node 30 s to start and its agents 15, whatever else the machine does; nothing sets either."""
    before = psutil.Process().children(recursive=True)
    try:
        return begin()
    except Exception as error:
        if "timed out during startup" not in str(error):
            raise
        for left in set(psutil.Process().children(recursive=True)) - set(before):
            left.kill()
        if attempts == 1:
            pytest.skip(f"the machine is too busy for Ray: {error}")
    return started(begin, attempts - 1)


@pytest.fixture(scope="module")
def cluster(opener: ModuleType) -> Iterator[Any]:
    """A head that does no work, and two workers of one processor each, as processes of their own."""
    from ray.cluster_utils import Cluster

    memory = {"object_store_memory": 80 << 20, "include_dashboard": False}
    cluster = started(lambda: Cluster(initialize_head=True, head_node_args={"num_cpus": 0, **memory}))
    try:
        for _ in range(2):
            started(lambda: cluster.add_node(num_cpus=1, object_store_memory=80 << 20, wait=False))
        cluster.wait_for_nodes(timeout=900)
        yield cluster
    finally:
        cluster.shutdown()


def contents(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def wait_until_held(until: Any) -> tuple[str, int]:
    """Wait until a process has a video in hand that it will not let go of; return the video and the process."""
    held = Path(os.environ["PCLKD_TEST_MARKS"]) / "held"
    until(lambda: held.exists() and any(held.iterdir()))
    (mark,) = held.iterdir()
    video, _, process = mark.name.rpartition(".")
    return video, int(process)


def node_of(process: int, nodes: list[Any]) -> Any:
    """The node that a process belongs to."""
    parents = {parent.pid for parent in psutil.Process(process).parents()}
    (node,) = [node for node in nodes if node.all_processes["raylet"][0].process.pid in parents]
    return node


def test_a_cluster_makes_the_same_bytes_though_one_worker_is_killed(
    synthetic_videos, opener: ModuleType, cluster, until, tmp_path: Path
) -> None:
    import ray

    plan = plan_packing(synthetic_videos.videos, synthetic_videos.splits, **SMALL)
    local = pack_videos(plan, tmp_path / "local", workers=2)
    nodes = list(cluster.worker_nodes)
    assert len(nodes) == 2
    steps: list[str] = []
    held: list[str] = []

    def step(name: str, _failed: bool = False, /) -> None:
        if not steps:
            video, process = wait_until_held(until)
            cluster.remove_node(node_of(process, nodes), allow_graceful=False)
            held.append(video)
        steps.append(name)

    report = pack_videos(
        plan,
        tmp_path / "ray",
        engine="ray",
        ray_address=cluster.address,
        step=step,
        opener=opener.the_first_waits_to_be_killed,
    )
    assert not ray.is_initialized()
    assert report.manifest == local.manifest
    assert report.made == local.made > 4
    assert contents(tmp_path / "ray") == contents(tmp_path / "local")
    assert sorted(steps) == sorted(video.relative for video in plan.dataset.videos)
    begun = list(Path(os.environ["PCLKD_TEST_MARKS"]).glob(f"{held[0]}.*"))
    assert len(begun) == 2, "the killed worker had a video in hand that was begun again elsewhere"
    again = pack_videos(plan, tmp_path / "ray", engine="ray", ray_address=cluster.address)
    assert again.complete


def test_what_goes_wrong_on_a_node_is_told_as_it_was_raised(synthetic_videos, opener, cluster, tmp_path) -> None:
    plan = plan_packing(synthetic_videos.videos, synthetic_videos.splits, **SMALL)
    with pytest.raises(OSError, match="No space") as full:
        pack_videos(plan, tmp_path / "out", engine="ray", ray_address=cluster.address, opener=opener.fails_to_write)
    assert full.value.filename == "/somewhere"
    assert list((tmp_path / "out").iterdir()) == []


def test_a_cluster_that_is_not_there(synthetic_videos, tmp_path: Path) -> None:
    plan = plan_packing(synthetic_videos.videos, synthetic_videos.splits, **SMALL)
    with pytest.raises(InputError, match=r"no Ray cluster at 127\.0\.0\.1:1"):
        pack_videos(plan, tmp_path / "out", engine="ray", ray_address="127.0.0.1:1")
    assert list((tmp_path / "out").iterdir()) == []


def test_ray_that_is_not_installed(synthetic_videos, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    plan = plan_packing(synthetic_videos.videos, synthetic_videos.splits, **SMALL)
    with pytest.raises(InputError, match=r"pip install 'pclkd\[ray\]'"):
        pack_videos(plan, tmp_path / "out", engine="ray")
    assert not (tmp_path / "out").exists()
