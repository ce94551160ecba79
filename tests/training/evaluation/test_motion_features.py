"""Hand-made motion features: of motions whose flow is known, and of rendered actions that no single frame tells."""

import math
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from pclkd.pipeline.clips.covering import UniformRecipe
from pclkd.pipeline.opening import clip_loader
from pclkd.pipeline.world import World
from pclkd.sharding.packing.pack import pack_videos, plan_packing
from pclkd.sharding.shards.index import ShardIndex
from pclkd.sharding.synth.dataset import LISTS_FOLDER, VIDEOS_FOLDER, SynthSettings, render_dataset
from pclkd.training.evaluation.motion_features import MotionFeatures
from pclkd.training.evaluation.probes import linear_probe

SIDE, FRAMES = 48, 8
RIGHT, DOWN, EXPANSION, TURN = range(8, 12)  # means over time, behind the eight directions


def moving(place: object) -> torch.Tensor:
    """A clip [1, 1, 3, T, 48, 48] of a textured disc; `place(t, x, y)` gives the points of the disc seen at (x, y)."""
    y, x = torch.meshgrid(*(torch.arange(SIDE, dtype=torch.float32) - SIDE / 2,) * 2, indexing="ij")
    frames = []
    for t in range(FRAMES):
        u, v = place(t - FRAMES / 2, x, y)  # type: ignore[operator]
        inside = torch.sigmoid(12 - torch.hypot(u, v))
        frames.append(inside * (1 + 0.5 * torch.sin(u / 2) * torch.cos(v / 2)))
    return torch.stack(frames).expand(3, -1, -1, -1)[None, None]


def turned(angle: float, x: torch.Tensor, y: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Where what is seen at (x, y) was before a turn by the angle from right to down."""
    return x * math.cos(angle) + y * math.sin(angle), y * math.cos(angle) - x * math.sin(angle)


def test_flow_tells_where_how_and_how_fast() -> None:
    describe = MotionFeatures().features
    right = describe(moving(lambda t, x, y: (x - 0.8 * t, y)))[0, 0]
    up = describe(moving(lambda t, x, y: (x, y + 0.8 * t)))[0, 0]
    grows = describe(moving(lambda t, x, y: (x / (1 + 0.04 * t), y / (1 + 0.04 * t))))[0, 0]
    turns = describe(moving(lambda t, x, y: turned(0.06 * t, x, y)))[0, 0]
    back = describe(moving(lambda t, x, y: turned(-0.06 * t, x, y)))[0, 0]
    still = describe(moving(lambda t, x, y: (x, y)))[0, 0]
    assert right[:8].argmax() == 0 and up[:8].argmax() == 6  # eighths of the circle, from right over down
    assert 0.2 < right[RIGHT] < 0.6 and abs(right[DOWN]) < 0.05  # 0.4 of the pixels that are seen, a frame
    assert -0.6 < up[DOWN] < -0.2 and abs(up[RIGHT]) < 0.05
    assert 0.03 < grows[EXPANSION] < 0.12 and abs(grows[TURN]) < 0.02  # 2 x 0.04
    # At the rim nothing is seen to turn: less than 2 x 0.06.
    assert 0.02 < turns[TURN] < 0.12 and abs(turns[EXPANSION]) < 0.02
    assert back[TURN].item() == pytest.approx(-turns[TURN].item(), rel=0.2)
    assert still.abs().max() < 1e-6


def test_each_clip_is_described_by_itself() -> None:
    clips = torch.randn(2, 3, 3, 8, 30, 40, generator=torch.Generator().manual_seed(0))
    whole = MotionFeatures().features(clips)
    assert whole.shape == (2, 3, 40)
    torch.testing.assert_close(whole[1:, 2:], MotionFeatures().features(clips[1:, 2:]), rtol=1e-4, atol=1e-5)


@pytest.fixture(scope="module")
def actions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four actions, 128 videos of 40 small frames, in 16 landscapes of which four are for the test."""
    root = tmp_path_factory.mktemp("actions")
    wanted = SynthSettings(classes=4, groups=16, clips=2, frames=40, height=64, width=86)
    render_dataset(root, wanted, workers=1)
    plan = plan_packing(root / VIDEOS_FOLDER, root / LISTS_FOLDER, height=48, width=64)
    pack_videos(plan, root / "shards", workers=1)
    return root / "shards"


def test_motion_tells_the_actions_and_a_single_frame_does_not(actions: Path) -> None:
    index, recipe = ShardIndex.open(actions), UniformRecipe(views=4, clip_frames=8)
    motion, frame, labels = {}, {}, {}
    for part in ("train", "test"):
        options = {"part": part, "shuffle": False, "crop": 48, "modality": "rgb", "batch_size": 16}
        with clip_loader(index, None, World(), device=torch.device("cpu"), recipe=recipe, **options) as loader:
            batches = [(batch.clips[: batch.valid], batch.label[: batch.valid]) for batch in loader.epoch(0)]
        labels[part] = torch.cat([label for _, label in batches])
        motion[part] = torch.cat([MotionFeatures().features(clips).mean(1) for clips, _ in batches])
        frame[part] = torch.cat([F.avg_pool2d(clips[:, 2, :, 4], 8).flatten(1) for clips, _ in batches])
    hits = {
        name: linear_probe(of["train"], labels["train"], of["test"], labels["test"], classes=4).double().mean().item()
        for name, of in (("motion", motion), ("frame", frame))
    }
    error = math.sqrt(0.25 * 0.75 / len(labels["test"]))
    assert hits["motion"] > 0.25 + 4 * error, hits
    assert hits["frame"] < 0.25 + 3 * error, hits
