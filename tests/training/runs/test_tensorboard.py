from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from pclkd.pipeline.pixels.colours import MEAN, STD
from pclkd.training.cli import main
from pclkd.training.runs.clip_pictures import clip_strip, thumbnails

TINY = [
    "--preset=demo", "--set=backbone.width=0.125", "--set=loader.crop=32", "--set=loader.batch_size=4",
    "--set=pcl.negatives=8", "--set=log_every=1", "--epochs=1",
]  # fmt: skip


def normalised(frames: torch.Tensor) -> torch.Tensor:
    """[..., 3, T, H, W] in [0, 1] as a loader gives them."""
    return (frames - torch.tensor(MEAN).view(3, 1, 1, 1)) / torch.tensor(STD).view(3, 1, 1, 1)


def test_strips_put_clip_frame_and_pixel_where_they_belong() -> None:
    frames = torch.rand(2, 3, 4, 5, 6, generator=torch.Generator().manual_seed(0))
    strip = clip_strip(normalised(frames), residual=False)
    assert strip.shape == (3, 2 * 5, 4 * 6)
    for v in range(2):
        for t in range(4):
            torch.testing.assert_close(strip[:, 5 * v : 5 * v + 5, 6 * t : 6 * t + 6], frames[v, :, t])
    long = clip_strip(normalised(torch.rand(1, 3, 16, 5, 6)), residual=False)
    assert long.shape == (3, 5, 8 * 6)


def test_residuals_are_shown_around_mid_grey() -> None:
    a, b = torch.rand(2, 3, 1, 5, 6, generator=torch.Generator().manual_seed(1))
    strip = clip_strip((normalised(a) - normalised(b))[None], residual=True)
    torch.testing.assert_close(strip, ((a - b) / 2 + 0.5)[:, 0])


def test_thumbnails_are_the_middle_frame_of_the_first_clip() -> None:
    frames = torch.rand(2, 3, 3, 5, 1, 1).expand(-1, -1, -1, -1, 24, 24)
    small = thumbnails(normalised(frames), residual=False)
    assert small.shape == (2, 3, 48, 48)
    torch.testing.assert_close(small, frames[:, 0, :, 2, :1, :1].expand(-1, -1, 48, 48))


@pytest.fixture(scope="module")
def board(synthetic_shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "run"
    done = CliRunner().invoke(main, ["pretrain", "--data", str(synthetic_shards), "--out", str(out), *TINY])
    assert done.exit_code == 0, done.output
    return out / "tensorboard"


def test_a_run_shows_curves_with_units_clips_and_settings(board: Path) -> None:
    events = EventAccumulator(str(board))
    events.Reload()
    tags = events.Tags()
    wanted = {"step/loss", "step/embedding_spread", "throughput/clips_per_s", "val/linear_top1_pct"}
    wanted |= {"val/linear_top1_pct_se", "val/knn_top1_pct", "val/retrieval_r10_pct"}
    assert wanted <= set(tags["scalars"])
    assert {f"clips/sample{number}" for number in range(4)} <= set(tags["images"])
    told = b"".join(events.PluginTagToContent("hparams").values())
    assert b"optimizer.lr" in told and b"augment.blur_sigma" in told and b"val/linear_top1_pct" in told


def test_the_projector_has_every_test_video_with_its_class(board: Path) -> None:
    (vectors,) = board.rglob("tensors.tsv")
    (names,) = board.rglob("metadata.tsv")
    rows = np.loadtxt(vectors, delimiter="\t")
    labels = names.read_text().splitlines()
    assert len(rows) == len(labels) > 3
    assert len(set(labels)) > 1
    assert list(board.rglob("sprite.png"))
