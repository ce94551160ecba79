import dataclasses
import io
import json
import os
import shutil
from pathlib import Path

import av
import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image

from pclkd.sharding import InputError, ShardIndex, pack_videos, plan_packing
from pclkd.sharding.cli import main
from pclkd.sharding.inspection import command
from pclkd.sharding.inspection.quality import QUALITIES, _evenly, measure_quality, psnr
from pclkd.sharding.shards.samples import read_frames


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def test_better_settings_are_closer_and_larger(synthetic_shards: Path, synthetic_videos) -> None:
    table = measure_quality(ShardIndex.open(synthetic_shards), synthetic_videos.videos, videos=3, frames=2)
    assert (table.videos, table.frames) == (3, 6)
    assert [row.stored for row in table.rows] == [True] + [False] * 10
    rows = {(row.chroma, row.quality): row for row in table.rows if not row.stored}
    figures = ("bytes_per_frame", "psnr_rgb_db", "psnr_luma_db", "ssim_rgb", "ssim_luma")
    for chroma in ("4:2:0", "4:4:4"):
        for figure in figures:
            values = [getattr(rows[chroma, quality], figure) for quality in QUALITIES]
            assert values == sorted(values), (chroma, figure)
    for quality in QUALITIES:
        assert rows["4:4:4", quality].bytes_per_frame > rows["4:2:0", quality].bytes_per_frame
        assert rows["4:4:4", quality].psnr_rgb_db > rows["4:2:0", quality].psnr_rgb_db
    # What the set holds was encoded with these settings, byte for byte.
    same = dataclasses.replace(rows["4:2:0", 90], stored=True)
    assert table.rows[0] == same
    assert same.psnr_rgb_db_worst <= same.psnr_rgb_db


def test_the_reference_is_the_scaled_original(synthetic_shards: Path, synthetic_videos) -> None:
    """PSNR of the stored frames against frames that another decoder path and Pillow have scaled."""
    index = ShardIndex.open(synthetic_shards)
    table = measure_quality(index, synthetic_videos.videos, videos=1, frames=1)
    sample = _evenly(len(index), 1)[0]
    source = next(synthetic_videos.videos.glob(f"*/{index.key(sample)}.avi"))
    with av.open(str(source)) as container:
        frame = list(container.decode(video=0))[48].to_ndarray(format="rgb24")
    scaled = np.asarray(Image.fromarray(frame).resize((86, 64), Image.Resampling.BICUBIC))
    stored = read_frames(index, sample, [48])[0]
    assert table.rows[0].psnr_rgb_db == pytest.approx(psnr(scaled, stored), abs=3)
    buffer = io.BytesIO()
    Image.fromarray(scaled).save(buffer, "JPEG", quality=90, subsampling="4:2:0")
    assert table.rows[0].bytes_per_frame == pytest.approx(len(buffer.getvalue()), rel=0.1)


@pytest.mark.parametrize(("count", "at_most", "numbers"), [(100, 4, [12, 37, 62, 87]), (3, 8, [0, 1, 2]), (1, 1, [0])])
def test_picks_lie_evenly(count: int, at_most: int, numbers: list[int]) -> None:
    assert _evenly(count, at_most) == numbers


def test_info_with_quality(synthetic_shards: Path, synthetic_videos, monkeypatch) -> None:
    monkeypatch.setattr(command, "_VIDEOS", 2)
    done = run("info", synthetic_shards, "--quality", synthetic_videos.videos, "--json")
    assert done.exit_code == 0, done.output
    rows = json.loads(done.stdout)["quality"]["rows"]
    assert len(rows) == 11
    text = run("info", synthetic_shards, "--quality", synthetic_videos.videos).stdout
    assert "measured on 6 frames of 2 videos" in text
    table = [line.split() for line in text.splitlines()[-11:]]
    assert [line[:2] for line in table[1:]] == [
        [str(each), chroma] for chroma in ("4:2:0", "4:4:4") for each in QUALITIES
    ]
    assert table[0][-1] == "(stored)"
    assert table[0][:3] == ["90", "4:2:0", f"{rows[0]['bytes_per_frame']:.0f}"]


def test_originals_that_do_not_fit_are_told(synthetic_shards: Path, synthetic_videos, tmp_path: Path) -> None:
    index = ShardIndex.open(synthetic_shards)
    with pytest.raises(InputError, match="no original of video"):
        measure_quality(index, tmp_path, videos=2)
    videos = Path(shutil.copytree(synthetic_videos.videos, tmp_path / "UCF-101"))
    victim = next(videos.glob(f"*/{index.key(_evenly(len(index), 2)[1])}.avi"))
    victim.write_bytes(victim.read_bytes() + b"x")
    with pytest.raises(InputError, match="is not the file that video"):
        measure_quality(index, videos, videos=2)


def test_originals_are_found_by_odd_names_and_from_a_table(synthetic_videos, tmp_path: Path) -> None:
    source = synthetic_videos.videos / "Rotate" / "v_Rotate_g01_c01.avi"
    odd = Path(os.fsdecode(os.fsencode(tmp_path) + b"/videos/Rotate/caf\xe9\\.avi"))
    odd.parent.mkdir(parents=True)
    shutil.copy(source, odd)
    (tmp_path / "videos" / "list.csv").write_bytes(b"path,label\nRotate/plain.avi,Rotate\n")
    shutil.copy(source, odd.parent / "plain.avi")
    for number, videos in enumerate((tmp_path / "videos", tmp_path / "videos" / "list.csv")):
        out = tmp_path / f"out{number}"
        pack_videos(plan_packing(videos, height=32, width=43), out, workers=1)
        assert measure_quality(ShardIndex.open(out), videos, frames=1).videos == 2 - number
