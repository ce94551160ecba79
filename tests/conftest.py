"""Which tests see a GPU; video files and shard sets that several tests share, made once a session.

PyAV is imported where it is used: tests of the step run on machines without it.
"""

import os
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import hypothesis
import numpy as np
import pytest

# A busy machine is no fault of the code: how long an example takes says nothing.
hypothesis.settings.register_profile("unhurried", deadline=None)
hypothesis.settings.load_profile("unhurried")


def pytest_configure(config: pytest.Config) -> None:
    """GPUs are there for `-m gpu` alone: what is not marked would race compilers there, and expects the CPU's figures.

    Processes that tests start inherit it.
    """
    if config.getoption("markexpr") != "gpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("gpu") is not None:
        import torch

        if not torch.cuda.is_available():
            pytest.skip("no GPU: run `pytest -m gpu` where there is one")


PATIENCE_S = 900.0  # a machine may be as busy as it likes; who waits in vain waits for a fault
Until = Callable[..., None]


@pytest.fixture(scope="session")
def until() -> Until:
    """`until(true, running)` waits for a state; it fails where the process `running` ends before that is reached."""

    def wait(true: Callable[[], object], running: subprocess.Popen[Any] | None = None) -> None:
        end = time.monotonic() + PATIENCE_S
        while not true():
            assert running is None or running.poll() is None, f"it ended before, with exit code {running.returncode}"
            assert time.monotonic() < end, "waited in vain"
            time.sleep(0.02)

    return wait


@dataclass(frozen=True)
class VideoFolder:
    """A folder of class folders and the folder of its split lists."""

    videos: Path
    splits: Path


@pytest.fixture(scope="session")
def ucf101_sample() -> VideoFolder:
    """71 original UCF101 videos with the official lists; the test is skipped where they are not at hand."""
    from pclkd.sharding.synth.dataset import LISTS_FOLDER, VIDEOS_FOLDER

    root = Path(__file__).resolve().parents[2] / "shared" / "ucf101-sample"
    if not root.is_dir():
        pytest.skip("no UCF101 sample beside the checkout")
    return VideoFolder(root / VIDEOS_FOLDER, root / LISTS_FOLDER)


@pytest.fixture(scope="session")
def synthetic_videos(tmp_path_factory: pytest.TempPathFactory) -> VideoFolder:
    """16 rendered videos of 96 frames, 120x160: 4 classes x 4 groups x 1 clip."""
    from pclkd.sharding.synth.dataset import LISTS_FOLDER, VIDEOS_FOLDER, SynthSettings, render_dataset

    root = tmp_path_factory.mktemp("synthetic")
    render_dataset(
        root, SynthSettings(classes=4, groups=4, clips=1, frames=96, seed=7, height=120, width=160), workers=1
    )
    return VideoFolder(root / VIDEOS_FOLDER, root / LISTS_FOLDER)


@pytest.fixture(scope="session")
def synthetic_shards(synthetic_videos: VideoFolder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The rendered videos as a shard set with 64x86 frames. Read-only: copy it before damaging it."""
    from pclkd.sharding.packing.pack import pack_videos, plan_packing

    out = tmp_path_factory.mktemp("synthetic-shards") / "shards"
    pack_videos(plan_packing(synthetic_videos.videos, synthetic_videos.splits, height=64, width=86), out, workers=1)
    return out


@pytest.fixture(scope="session")
def real_shards(ucf101_sample: VideoFolder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The 71 originals as a shard set with 64x86 frames. Read-only: copy it before damaging it."""
    from pclkd.sharding.packing.pack import pack_videos, plan_packing

    out = tmp_path_factory.mktemp("real-shards") / "shards"
    plan = plan_packing(ucf101_sample.videos, ucf101_sample.splits, allow_empty_split=True, height=64, width=86)
    pack_videos(plan, out, workers=2)
    return out


WriteVideo = Callable[..., Path]


@pytest.fixture(scope="session")
def write_video() -> WriteVideo:
    """A function that writes planes to a video file, as they are: no conversion on the way to the encoder.

    `frames` are rows of planes (Y, Cb, Cr or grey), uint8 [height, width], of one size; `times` are their time stamps
    in frames, 0, 1, 2, ... by default; `tags` are attributes of the encoder, such as colour tags.
    """

    import av

    def write(
        path: Path,
        frames: Iterable[Sequence[np.ndarray]],
        *,
        codec: str = "libx264",
        pixels: str = "yuv420p",
        rate: Fraction | int = 25,
        times: Sequence[int] | None = None,
        options: Mapping[str, str] | None = None,
        tags: Mapping[str, int] | None = None,
    ) -> Path:
        with av.open(str(path), "w") as container:
            stream = container.add_stream(codec, rate=rate, options=dict(options or {}))
            stream.pix_fmt = pixels
            for name, value in (tags or {}).items():
                setattr(stream.codec_context, name, value)
            for number, planes in enumerate(frames):
                height, width = planes[0].shape
                frame = av.VideoFrame(width, height, pixels)
                for plane, values in zip(frame.planes, planes, strict=True):
                    padded = np.zeros((plane.height, plane.line_size), np.uint8)
                    padded[:, : plane.width] = values
                    plane.update(padded.tobytes())
                for name in ("colorspace", "color_range"):
                    if tags and name in tags:
                        setattr(frame, name, tags[name])
                if number == 0:
                    stream.height, stream.width = height, width
                frame.pts = times[number] if times else number
                frame.time_base = 1 / Fraction(rate)
                container.mux(stream.encode(frame))
            container.mux(stream.encode())
        return path

    return write


@pytest.fixture
def one_thread() -> Iterator[None]:
    """On busy cores several threads on tiny tensors spend their time waiting for each other."""
    import torch  # most tests of shards do without it

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
