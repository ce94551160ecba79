"""Video files and shard sets that several tests share; made once a session."""

from dataclasses import dataclass
from pathlib import Path

import pytest

from pclkd.sharding.pack import pack_videos, plan_packing
from pclkd.sharding.synth import LISTS_FOLDER, VIDEOS_FOLDER, SynthSettings, render_dataset


@dataclass(frozen=True)
class VideoFolder:
    """A folder of class folders and the folder of its split lists."""

    videos: Path
    splits: Path


@pytest.fixture(scope="session")
def ucf101_sample() -> VideoFolder:
    """71 original UCF101 videos with the official lists; the test is skipped where they are not at hand."""
    root = Path(__file__).resolve().parents[2] / "shared" / "ucf101-sample"
    if not root.is_dir():
        pytest.skip("no UCF101 sample beside the checkout")
    return VideoFolder(root / VIDEOS_FOLDER, root / LISTS_FOLDER)


@pytest.fixture(scope="session")
def synthetic_videos(tmp_path_factory: pytest.TempPathFactory) -> VideoFolder:
    """16 rendered videos of 96 frames, 120x160: 4 classes x 4 groups x 1 clip."""
    root = tmp_path_factory.mktemp("synthetic")
    render_dataset(
        root, SynthSettings(classes=4, groups=4, clips=1, frames=96, seed=7, height=120, width=160), workers=1
    )
    return VideoFolder(root / VIDEOS_FOLDER, root / LISTS_FOLDER)


@pytest.fixture(scope="session")
def synthetic_shards(synthetic_videos: VideoFolder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The rendered videos as a shard set with 64x86 frames. Read-only: copy it before damaging it."""
    out = tmp_path_factory.mktemp("synthetic-shards") / "shards"
    pack_videos(plan_packing(synthetic_videos.videos, synthetic_videos.splits, height=64, width=86), out, workers=1)
    return out


@pytest.fixture(scope="session")
def real_shards(ucf101_sample: VideoFolder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The 71 originals as a shard set with 64x86 frames. Read-only: copy it before damaging it."""
    out = tmp_path_factory.mktemp("real-shards") / "shards"
    pack_videos(plan_packing(ucf101_sample.videos, ucf101_sample.splits, height=64, width=86), out, workers=2)
    return out
