"""Videos that hang, crash or bloat the process that decodes them: real processes, really lost."""

import sys
import textwrap
from pathlib import Path
from types import ModuleType

import psutil
import pytest

from pclkd.sharding import InputError, ShardIndex, pack_videos, plan_packing
from pclkd.sharding.packing import supervise
from pclkd.sharding.packing.jobs import MakeShard
from pclkd.sharding.packing.run import PackRun
from pclkd.sharding.packing.supervise import Limits
from pclkd.sharding.shards.verify import verify_shards
from pclkd.sharding.video.frames import open_video

SMALL = {"height": 32, "width": 43, "quality": 50, "max_frames": 12}

# What a decoder may do in the middle of a video. `once` keeps a mark, so that the second attempt goes well.
OPENERS = """
    import ctypes
    import os
    import signal
    import time
    from contextlib import contextmanager
    from pathlib import Path

    from pclkd.sharding.video.frames import EncodedVideo, UnreadableVideoError, open_video


    def trouble(victim, act):
        @contextmanager
        def opened(path, settings):
            with open_video(path, settings) as video:
                def frames():
                    for number, frame in enumerate(video.frames):
                        if number == 5 and path.stem == victim:
                            act(path)
                        yield frame
                yield EncodedVideo(video.fps, video.height, video.width, frames())
        return opened


    def segfault(path):
        ctypes.string_at(0)


    def abort(path):
        os.abort()


    def hang(path):
        (path.parent.parent.parent / f"hangs.{os.getpid()}").touch()
        # Without letting go of the interpreter: no thread of this process can do anything about it.
        ctypes.PyDLL(None).sleep(10_000)


    def a_second_passes(path):
        with (path.parent.parent.parent / "clock").open("a") as clock:
            clock.write("tick ")


    def bloat(path):
        kept = []
        while True:
            kept.append(bytearray(64 << 20))


    def killed(path):
        os.kill(os.getpid(), signal.SIGKILL)


    def unreadable(path):
        raise UnreadableVideoError("was not there for a moment")


    def once(act):
        def first(path):
            mark = path.parent.parent.parent / f"{path.stem}.{act.__name__}"
            if not mark.exists():
                mark.touch()
                act(path)
        return first


    VICTIM = "v_Rotate_g02_c01"
    segfaults, aborts, hangs, bloats, dies = (trouble(VICTIM, act) for act in (segfault, abort, hang, bloat, killed))
    once_segfaults, once_hangs, once_dies, once_unreadable = (
        trouble(VICTIM, once(act)) for act in (segfault, hang, killed, unreadable)
    )


    @contextmanager
    def slow(path, settings):
        with open_video(path, settings) as video:
            def frames():
                for frame in video.frames:
                    a_second_passes(path)
                    time.sleep(0.3)
                    yield frame
            yield EncodedVideo(video.fps, video.height, video.width, frames())
"""


@pytest.fixture
def openers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """A module that worker processes can import too; its openers can be pickled by name."""
    text = textwrap.dedent(OPENERS)
    names = ("segfaults", "aborts", "hangs", "bloats", "dies", "once_segfaults", "once_hangs", "once_dies")
    wrappers = "".join(
        f"\n\n_{name} = {name}\ndef {name}(path, settings):\n    return _{name}(path, settings)\n"
        for name in (*names, "once_unreadable")
    )
    (tmp_path / "openers_for_supervise.py").write_text(text + wrappers)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "openers_for_supervise", raising=False)
    import openers_for_supervise

    return openers_for_supervise


@pytest.fixture(scope="module")
def whole(synthetic_videos, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("whole") / "out"
    pack_videos(plan_packing(synthetic_videos.videos, synthetic_videos.splits, **SMALL), out, workers=2)
    return out


class Clock:
    """Stands still while all goes well: a busy machine is no video that hangs.

    A process that hangs says so in `folder` and makes time pass, a second each time that somebody looks, until it is
    killed; a slow opener lets a second pass itself.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.looked = folder, 0

    @property
    def ticks(self) -> int:
        file = self.folder / "clock"
        return len(file.read_text().split()) if file.exists() else 0

    def monotonic(self) -> float:
        self.looked += any(psutil.pid_exists(int(mark.suffix[1:])) for mark in self.folder.glob("hangs.*"))
        return float(self.looked + self.ticks)


@pytest.fixture
def clock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The supervisor's."""
    made = Clock(tmp_path)
    monkeypatch.setattr(supervise, "time", made)
    return made


def copied(synthetic_videos, tmp_path: Path) -> Path:
    """A folder of links, so that openers may leave marks beside it."""
    for path in synthetic_videos.videos.glob("*/*.avi"):
        (tmp_path / "UCF-101" / path.parent.name).mkdir(parents=True, exist_ok=True)
        (tmp_path / "UCF-101" / path.parent.name / path.name).symlink_to(path)
    return tmp_path / "UCF-101"


def contents(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


@pytest.mark.usefixtures("clock")
@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("segfaults", "crashed the decoder (SIGSEGV)"),
        ("aborts", "crashed the decoder (SIGABRT)"),
        ("hangs", "hung: no frame in 1.5 s"),
        ("bloats", "needs more memory to decode than a worker may use"),
    ],
)
def test_a_video_that_loses_its_process_twice_costs_that_video_alone(
    synthetic_videos, openers: ModuleType, tmp_path: Path, name: str, reason: str
) -> None:
    videos = copied(synthetic_videos, tmp_path)
    plan = plan_packing(videos, synthetic_videos.splits, **SMALL)
    steps: list[tuple[str, bool]] = []
    report = pack_videos(
        plan,
        tmp_path / "out",
        workers=1 if name == "hangs" else 2,  # the clock is that of all processes
        limits=Limits(file_seconds=1.5, memory_bytes=600 << 20),
        opener=getattr(openers, name),
        step=lambda video, failed=False, /: steps.append((video, failed)),
    )
    (left_out,) = report.manifest.quarantined
    assert (left_out.video, left_out.reason) == ("Rotate/v_Rotate_g02_c01.avi", reason)
    assert report.retried == 1
    assert sorted(steps) == sorted((v.relative, v.relative == left_out.video) for v in plan.dataset.videos)
    # As if that video had been no video at all.
    victim = videos / "Rotate" / "v_Rotate_g02_c01.avi"
    victim.unlink()
    victim.write_bytes(b"")
    pack_videos(plan_packing(videos, synthetic_videos.splits, **SMALL), tmp_path / "without", workers=1)
    with_crash, without = contents(tmp_path / "out"), contents(tmp_path / "without")
    assert with_crash.pop("manifest.json") != without.pop("manifest.json")
    assert with_crash == without
    assert not verify_shards(tmp_path / "out").damage


@pytest.mark.usefixtures("clock")
@pytest.mark.parametrize("name", ["once_segfaults", "once_hangs", "once_dies", "once_unreadable"])
def test_a_video_that_fails_once_is_packed_as_if_nothing_had_been(
    synthetic_videos, openers: ModuleType, whole: Path, tmp_path: Path, name: str
) -> None:
    videos = copied(synthetic_videos, tmp_path)
    report = pack_videos(
        plan_packing(videos, synthetic_videos.splits, **SMALL),
        tmp_path / "out",
        workers=1 if name == "once_hangs" else 2,
        limits=Limits(file_seconds=1.5),
        opener=getattr(openers, name),
    )
    assert report.manifest.quarantined == ()
    assert report.retried == (name != "once_dies")
    assert contents(tmp_path / "out") == contents(whole)


def test_a_video_is_not_blamed_for_a_process_killed_from_outside(
    synthetic_videos, openers: ModuleType, whole: Path, tmp_path: Path
) -> None:
    plan = plan_packing(synthetic_videos.videos, synthetic_videos.splits, **SMALL)
    with pytest.raises(InputError, match=r"died 3 times \(SIGKILL\) over shard-.*fewer --workers"):
        pack_videos(plan, tmp_path / "out", workers=1, opener=openers.dies)
    assert not (tmp_path / "out" / "manifest.json").exists()
    report = pack_videos(plan, tmp_path / "out", workers=1)
    assert contents(tmp_path / "out") == contents(whole)
    assert report.manifest.quarantined == ()


def test_a_long_video_may_take_longer_than_the_limit_as_long_as_it_goes_on(
    synthetic_videos, openers: ModuleType, clock: Clock, tmp_path: Path
) -> None:
    videos = tmp_path / "UCF-101"
    (videos / "Rotate").mkdir(parents=True)
    source = synthetic_videos.videos / "Rotate" / "v_Rotate_g01_c01.avi"
    (videos / "Rotate" / source.name).symlink_to(source)
    report = pack_videos(
        plan_packing(videos, synthetic_videos.splits, allow_empty_split=True, **SMALL),
        tmp_path / "out",
        limits=Limits(file_seconds=1.5),
        opener=openers.slow,
    )
    assert report.manifest.quarantined == ()
    assert clock.ticks == SMALL["max_frames"]  # seconds: many times the limit


def test_frames_go_to_the_tar_one_by_one(synthetic_videos, tmp_path: Path) -> None:
    """The memory of the process that makes a shard does not grow with the length of its videos."""
    import av
    import numpy as np

    peaks = []
    noise = np.random.default_rng(0).integers(0, 256, (8, 128, 160, 3), dtype=np.uint8)
    for frames in (200, 2000):
        videos = tmp_path / str(frames) / "UCF-101" / "Rotate"
        videos.mkdir(parents=True)
        with av.open(str(videos / "v_Rotate_g01_c01.avi"), "w") as container:
            stream = container.add_stream("mjpeg", rate=25)
            stream.width, stream.height, stream.pix_fmt = 160, 128, "yuvj420p"
            for number in range(frames):
                frame = av.VideoFrame.from_ndarray(noise[number % 8], format="rgb24")
                container.mux(stream.encode(frame))
            container.mux(stream.encode())
        peak = 0

        def watch(_name: str, _failed: bool = False, /) -> None:
            nonlocal peak
            for child in psutil.Process().children():
                fields = Path(f"/proc/{child.pid}/status").read_text()
                peak = max(peak, int(fields.split("VmHWM:")[1].split()[0]))

        plan = plan_packing(videos.parent, dataset="folder", height=128, width=160, quality=95)
        pack_videos(plan, tmp_path / str(frames) / "out", workers=1, step=watch)
        stored = ShardIndex.open(tmp_path / str(frames) / "out").manifest.shards[0].bytes
        peaks.append((peak, stored))
    assert peaks[1][1] - peaks[0][1] > 20e6
    assert peaks[1][0] - peaks[0][0] < 10_000


@pytest.mark.parametrize("lost", ["after the part", "before the record", "after the record"])
def test_a_process_lost_near_the_end_of_a_shard_is_made_up_for(synthetic_videos, tmp_path: Path, lost: str) -> None:
    """The moments between a finished tar and its record are too short to be hit on purpose: take them one by one."""
    plan = plan_packing(synthetic_videos.videos, synthetic_videos.splits, **SMALL)
    (tmp_path / ".pack").mkdir()
    task = PackRun(plan.dataset, plan.settings, str(tmp_path), open_video).tasks[0]
    told: list[tuple] = []
    first = MakeShard(task).do((), told.append)
    assert first.record is not None
    tar = tmp_path / task.name
    record = tmp_path / ".pack" / f"{tar.stem}.json"
    whole = contents(tmp_path)
    outcomes = [message[1] for message in told if message[0] == "through"]
    if lost != "after the record":
        record.unlink()
    if lost == "after the part":
        tar.rename(task.part)
    told.clear()
    second = MakeShard(task).do(outcomes, told.append)
    assert second.record == first.record
    assert second.kept == (lost == "after the record")
    assert ("restart",) in told if lost == "before the record" else told == []
    assert contents(tmp_path) == whole
