import io
import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from pclkd.benchmarks.cli import main
from pclkd.benchmarks.packing.stages import ReadyFrames, decode_only, decode_scale, plain_frames, plain_loop
from pclkd.sharding.video.frames import open_video
from pclkd.sharding.video.settings import PackSettings

SETTINGS = PackSettings(64, 86)


@pytest.fixture
def paths(synthetic_videos) -> list[Path]:
    return sorted(synthetic_videos.videos.glob("*/*.avi"))[:2]


def test_every_case_goes_through_every_frame(paths: list[Path]) -> None:
    assert plain_loop(paths, SETTINGS) == decode_only(paths) == decode_scale(paths, SETTINGS) == 2 * 96
    ready = ReadyFrames(paths, SETTINGS, most=20)
    assert ready.encode() == 20


def test_the_plain_loop_makes_the_same_pictures(paths: list[Path]) -> None:
    with open_video(paths[0], SETTINGS) as video:
        ours = list(video.frames)
    theirs = list(plain_frames(paths[0], SETTINGS))
    for one, other in zip(ours, theirs, strict=True):
        one, other = (np.asarray(Image.open(io.BytesIO(jpeg)), float) for jpeg in (one, other))
        assert one.shape == other.shape == (64, 86, 3)
        assert 10 * np.log10(255**2 / np.mean((one - other) ** 2)) > 30
    assert sum(map(len, ours)) == pytest.approx(sum(map(len, theirs)), rel=0.1)


def test_figures_fit_together(synthetic_videos, tmp_path: Path) -> None:
    out = tmp_path / "shard.json"
    arguments = ["shard", "--videos", str(synthetic_videos.videos), "--splits", str(synthetic_videos.splits)]
    more = ["--size", "64x86", "--most", "2", "--workers", "2", "--rounds", "1", "--min-seconds", "0", "--quick"]
    run = CliRunner().invoke(main, [*arguments, *more, "--json", str(out)], catch_exceptions=False)
    assert run.exit_code == 0
    result = json.loads(out.read_text())
    assert result["base"] == "plain"
    assert (result["settings"]["videos"], result["settings"]["frames"]) == (2, 192)
    rate = {figure["name"]: figure["median"] for figure in result["results"]}
    assert rate["stages"] == pytest.approx(1 / (1 / rate["decode_scale"] + 1 / rate["encode"]))
    extra = {figure["name"]: figure["extra"] for figure in result["results"]}
    for name, median in rate.items():
        assert extra[name]["videos_per_s"] == pytest.approx(median / 96)
    for name in ("plain", "pclkd", "decode", "decode_scale", "encode"):
        # One thread cannot use more than the clock's time, in its quickest turn at that.
        assert 0 < extra[name]["cpu_us_per_frame"] < 1.5e6 / rate[name]
    ours = extra["pclkd"]
    assert ours["x_plain"] == pytest.approx(rate["pclkd"] / rate["plain"])
    assert ours["x_plain_at_most"] == pytest.approx(rate["decode"] / rate["plain"])
    assert ours["of_stages_pct"] == pytest.approx(100 * rate["pclkd"] / rate["stages"])
    shares = [ours[f"{stage}_pct"] for stage in ("decode", "scale", "encode", "rest")]
    assert sum(shares) == pytest.approx(100)
    # Of the seconds that a frame takes.
    assert ours["decode_pct"] == pytest.approx(100 * (1 / rate["decode"]) / (1 / rate["pclkd"]))
    assert extra["pack"]["efficiency_pct"] == pytest.approx(100 * rate["pack"] / (2 * rate["pclkd"]))


def test_a_broken_video_is_told(synthetic_videos, tmp_path: Path) -> None:
    folder = tmp_path / "videos" / "Broken"
    folder.mkdir(parents=True)
    raw = next(iter(sorted(synthetic_videos.videos.glob("*/*.avi")))).read_bytes()
    (folder / "v.avi").write_bytes(raw[: len(raw) // 2])
    run = CliRunner().invoke(main, ["shard", "--videos", str(folder.parent), "--quick"])
    assert run.exit_code == 2
    assert "v.avi is cut short" in run.output
