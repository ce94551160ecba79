import dataclasses
import json
import shutil
from collections import Counter
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from pclkd.sharding import ShardIndex, pack_videos, plan_packing
from pclkd.sharding.cli import main
from pclkd.sharding.inspection.statistics import _histogram, _spread, measure_set
from pclkd.sharding.inspection.text import print_statistics


@given(arrays(np.int32, st.integers(1, 200), elements=st.integers(1, 5000)))
def test_spread_is_exact(numbers: np.ndarray) -> None:
    spread = _spread(numbers)
    ordered = np.sort(numbers)
    assert (spread.min, spread.max) == (ordered[0], ordered[-1])
    assert spread.median == np.percentile(numbers, 50, method="inverted_cdf")
    assert spread.p99 == np.percentile(numbers, 99, method="inverted_cdf")
    assert spread.mean == pytest.approx(numbers.mean(), abs=0.01)


def test_spread_of_more_than_a_chunk() -> None:
    numbers = np.arange(1, 10_000_001, dtype=np.int64) % 1000
    assert dataclasses.astuple(_spread(numbers)) == (0, 499, 989, 999, 499.5)


@given(arrays(np.int64, st.integers(1, 100), elements=st.integers(1, 100_000)))
def test_every_video_is_in_the_bin_of_its_length(counts: np.ndarray) -> None:
    bins = _histogram(counts)
    assert len(bins) <= 14
    assert all(left.stop == right.start for left, right in pairwise(bins))
    assert len({bin.stop - bin.start for bin in bins[:-1]}) <= 1
    assert [bin.videos for bin in bins] == [int(((counts >= bin.start) & (counts < bin.stop)).sum()) for bin in bins]
    assert sum(bin.videos for bin in bins) == len(counts)


def test_figures_of_the_rendered_videos(synthetic_videos, tmp_path: Path) -> None:
    videos = Path(shutil.copytree(synthetic_videos.videos, tmp_path / "UCF-101"))
    (videos / "Rotate" / "v_Rotate_g01_c01.avi").write_bytes(b"")
    (videos / "Rotate" / "v_Rotate_g02_c01.avi").write_bytes(b"")
    pack_videos(plan_packing(videos, synthetic_videos.splits, height=32, width=43), tmp_path / "out", workers=1)
    index = ShardIndex.open(tmp_path / "out")
    figures = measure_set(index)
    folders = Counter(path.parent.name for path in videos.glob("*/*.avi") if path.stat().st_size)
    assert figures.videos_per_class == {name: folders[name] for name in index.classes}
    assert figures.frames_per_video.min == figures.frames_per_video.max == 96
    assert figures.bytes_per_frame.mean == pytest.approx(index.frame_length.mean(), abs=0.01)
    assert figures.frame_sizes == {"32x43": 14}
    assert figures.fps == {"25": 14}
    assert figures.fps_videos == 14
    assert figures.quarantine == {"is empty": 2}

    done = CliRunner().invoke(main, ["info", str(tmp_path / "out"), "--json"])
    assert json.loads(done.stdout)["statistics"] == json.loads(json.dumps(dataclasses.asdict(figures)))
    text = CliRunner().invoke(main, ["info", str(tmp_path / "out")]).stdout
    assert "per class    min 2, median 4, max 4 videos\n" in text
    assert "lengths      min 96, median 96, mean 96, p99 96, max 96 frames\n" in text
    assert "frame size   32x43 (14)\nframes/s     25 (14)\nquarantined  2 videos\n  is empty  2  ####" in text
    assert "\x1b" not in text


def test_a_damaged_set_has_figures_too(synthetic_shards: Path, tmp_path: Path) -> None:
    shards = Path(shutil.copytree(synthetic_shards, tmp_path / "shards"))
    index = ShardIndex.open(shards)
    Path(index.shard_url(0)).unlink()
    gone = int((index.sample_shard == 0).sum())
    damaged = measure_set(ShardIndex.open(shards, check_shards=False))
    assert damaged.fps == {"25": len(index) - gone, "unreadable": gone}
    whole = measure_set(ShardIndex.open(synthetic_shards))
    assert dataclasses.replace(damaged, fps=whole.fps) == whole
    assert CliRunner().invoke(main, ["info", str(shards)]).exit_code == 0


def test_a_thousand_classes_do_not_fill_the_screen(synthetic_shards: Path, capsys) -> None:
    figures = measure_set(ShardIndex.open(synthetic_shards))
    many = {f"class{number:04d}": number for number in range(1000)}
    print_statistics(dataclasses.replace(figures, videos_per_class=many))
    lines = capsys.readouterr().out.splitlines()
    assert "per class    999 of 1000 classes have any; min 1, median 500, max 999 videos" in lines
    named = [line.split()[0] for line in lines if line.startswith("  class")]
    assert named == [f"class{number:04d}" for number in (*range(999, 987, -1), *range(12, 0, -1))]
    assert "  ... 975 classes ..." in lines
    largest = next(line for line in lines if "class0999" in line)
    assert largest.count("#") == max(line.count("#") for line in lines if line.startswith("  class"))


def test_bars_on_a_terminal_are_blocks_of_eighths(monkeypatch) -> None:
    from pclkd.sharding.inspection import text as bars

    monkeypatch.setattr(bars.sys, "stdout", SimpleNamespace(isatty=lambda: True, encoding="UTF-8"))
    assert [bars._bar(length) for length in (0, 0.01, 0.5, 1, 2.25)] == ["", "▏", "▌", "█", "██▎"]
