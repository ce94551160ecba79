"""The options of `shard-ucf101 pack` that say how frames are stored, down to the JPEG headers."""

import json
from pathlib import Path

import numpy as np
import pytest
import simplejpeg
from click.testing import CliRunner

from pclkd.sharding.cli import main
from pclkd.sharding.shards.index import ShardIndex
from pclkd.sharding.shards.samples import read_jpegs


def pack(videos: Path, out: Path, *options: str) -> ShardIndex:
    run = CliRunner().invoke(
        main, ["pack", str(videos), str(out), "--dataset=folder", "--workers=1", *options], catch_exceptions=False
    )
    assert run.exit_code == 0, run.output
    return ShardIndex.open(out)


@pytest.fixture
def videos(synthetic_videos, tmp_path: Path) -> Path:
    """Two videos of 96 frames, 120x160, 25 a second; no lists."""
    for path in sorted(synthetic_videos.videos.glob("*/*.avi"))[:2]:
        (tmp_path / "videos" / path.parent.name).mkdir(parents=True, exist_ok=True)
        (tmp_path / "videos" / path.parent.name / path.name).symlink_to(path)
    return tmp_path / "videos"


def lengths(index: ShardIndex) -> list[int]:
    return np.diff(index.sample_frames).tolist()


def headers(index: ShardIndex) -> list[set[tuple[int, int, str, str]]]:
    """Height, width, colours and chroma sampling of the stored frames of each sample."""
    return [
        {simplejpeg.decode_jpeg_header(jpeg) for jpeg in read_jpegs(index, sample, range(length))}
        for sample, length in enumerate(lengths(index))
    ]


def test_short_side_rate_number_and_chroma(videos: Path, tmp_path: Path) -> None:
    index = pack(videos, tmp_path / "out", "--size=48", "--fps=10", "--max-frames=7", "--chroma=444", "--quality=70")
    assert headers(index) == 2 * [{(48, 64, "YCbCr", "444")}]
    assert index.sample_sizes(np.arange(2)).tolist() == 2 * [[48, 64]]
    settings = json.loads((tmp_path / "out" / "manifest.json").read_text())["settings"]
    assert settings["short_side"] == 48
    assert (settings["height"], settings["width"]) == (0, 0)
    assert (settings["fps"], settings["max_frames"], settings["quality"]) == (10, 7, 70)
    assert settings["chroma"] == "4:4:4"
    assert lengths(index) == [7, 7]


def test_exact_size_and_defaults(videos: Path, tmp_path: Path) -> None:
    index = pack(videos, tmp_path / "out", "--size=33x47", "--fps=12.5")
    assert headers(index) == 2 * [{(33, 47, "YCbCr", "420")}]
    assert lengths(index) == [48, 48]


@pytest.mark.parametrize(
    ("option", "told"),
    [
        ("--size=128by171", "neither HEIGHTxWIDTH"),
        ("--size=-5", "neither HEIGHTxWIDTH"),
        ("--size=8", "short side of 8"),
        ("--size=8x200", "8x200"),
        ("--fps=-1", "-1.0 frames a second"),
        ("--fps=nan", "nan frames a second"),
        ("--max-frames=-3", "at most -3 frames"),
        ("--quality=96", "quality of 96"),
        ("--quality=0", "quality of 0"),
        ("--chroma=422", "'422' is not one of"),
    ],
)
def test_wrong_values_are_told(videos: Path, tmp_path: Path, option: str, told: str) -> None:
    run = CliRunner().invoke(main, ["pack", str(videos), str(tmp_path / "out"), option])
    assert run.exit_code == 2
    assert told in run.output
    assert not (tmp_path / "out").exists()
