"""Packing in parts, by runs of their own, and a finish: the bytes of one run."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from pclkd.sharding import InputError, PackPart, ShardIndex, finish_set, pack_part, pack_videos, plan_packing
from pclkd.sharding.cli import main
from pclkd.sharding.packing.pack import PackPlan

SMALL = {"height": 32, "width": 43, "quality": 50, "max_frames": 8}


@pytest.fixture
def plan(synthetic_videos) -> PackPlan:
    return plan_packing(synthetic_videos.videos, synthetic_videos.splits, **SMALL)


def contents(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def test_parts_make_each_shard_once_and_finish_gives_the_bytes_of_one_run(plan: PackPlan, tmp_path: Path) -> None:
    whole = pack_videos(plan, tmp_path / "whole", workers=1)
    out = tmp_path / "out"
    for number, left in ((3, "parts 1/3, 2/3 of .* are not"), (1, "part 2/3 of .* is not"), (2, "")):
        report = pack_part(plan, out, PackPart(number, 3), workers=1)
        assert (report.made, report.kept) == (len(range(number - 1, 4, 3)), 0)
        if left:
            with pytest.raises(InputError, match=left):
                finish_set(out)
    assert not (out / "manifest.json").exists()
    again = pack_part(plan, out, PackPart(1, 3), workers=1)  # such as a job that was queued twice
    assert (again.made, again.kept) == (0, 2)
    finished = finish_set(out)
    assert contents(out) == contents(tmp_path / "whole")
    assert (finished.manifest, finished.complete) == (whole.manifest, False)
    assert finish_set(out).complete
    with pytest.raises(InputError, match="holds a finished shard set"):
        pack_part(plan, out, PackPart(1, 3))


@pytest.mark.parametrize("below", ["shards", "."])
def test_a_set_below_its_videos_is_none_of_them(synthetic_videos, tmp_path: Path, below: str) -> None:
    videos = Path(shutil.copytree(synthetic_videos.videos, tmp_path / "clips"))
    (videos / "Rotate" / "notes.txt").write_text("beside the videos")
    out = videos / below

    def plan() -> PackPlan:
        return plan_packing(videos, dataset="folder", **SMALL)

    for number in (1, 2):
        pack_part(plan(), out, PackPart(number, 2), workers=1)
    assert finish_set(out).manifest.other_files == {".txt": 1}
    assert pack_videos(plan(), out, workers=1).complete


def test_a_tar_that_is_gone_or_cut_makes_its_part_missing(plan: PackPlan, tmp_path: Path) -> None:
    for number in (1, 2):
        pack_part(plan, tmp_path, PackPart(number, 2), workers=1)
    tars = sorted(tmp_path.glob("*.tar"))
    tars[1].write_bytes(tars[1].read_bytes()[:-1])
    tars[0].with_suffix(".idx").unlink()  # it follows from the record
    with pytest.raises(InputError, match=rf"part 2/2 of .* 1 of its 4 shards are missing, the first is {tars[1].name}"):
        finish_set(tmp_path)
    assert pack_part(plan, tmp_path, PackPart(2, 2), workers=1).made == 1
    assert len(ShardIndex.open(finish_set(tmp_path) and tmp_path)) == 16
    assert tars[0].with_suffix(".idx").exists()


def test_parts_of_another_plan_are_refused(plan: PackPlan, synthetic_videos, tmp_path: Path) -> None:
    pack_part(plan, tmp_path / "out", PackPart(1, 2), workers=1)
    others = [tmp_path / "out" / ".pack" / f"shard-{number:06d}.tar.other.part" for number in range(4)]
    for path in others:
        path.write_bytes(b"part 2/2 is at work on it")
    with pytest.raises(InputError, match="packed in 2 parts, not in 3"):
        pack_part(plan, tmp_path / "out", PackPart(2, 3))
    assert all(path.exists() for path in others)
    other = plan_packing(synthetic_videos.videos, synthetic_videos.splits, **SMALL | {"quality": 60})
    with pytest.raises(InputError, match="from other settings than these"):
        pack_part(other, tmp_path / "out", PackPart(2, 2))
    fewer = Path(shutil.copytree(synthetic_videos.videos, tmp_path / synthetic_videos.videos.name))
    next(fewer.glob("*/*.avi")).unlink()
    with pytest.raises(InputError, match="from other videos or lists than these"):
        pack_part(plan_packing(fewer, synthetic_videos.splits, **SMALL), tmp_path / "out", PackPart(2, 2))
    # Where the videos lie may differ from host to host.
    shutil.rmtree(fewer)
    shutil.copytree(synthetic_videos.videos, fewer)
    pack_part(plan_packing(fewer, synthetic_videos.splits, **SMALL), tmp_path / "out", PackPart(2, 2), workers=1)
    finish_set(tmp_path / "out")
    pack_videos(plan, tmp_path / "whole", workers=1)
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


def test_what_is_left_to_a_single_run_is_finished_by_it(plan: PackPlan, tmp_path: Path) -> None:
    pack_part(plan, tmp_path / "out", PackPart(1, 2), workers=1)
    report = pack_videos(plan, tmp_path / "out", workers=1)
    assert (report.kept, report.made) == (2, 2)
    with pytest.raises(InputError, match="no unfinished shard set"):
        finish_set(tmp_path)


def test_more_parts_than_shards_and_parts_that_are_none(plan: PackPlan, tmp_path: Path) -> None:
    assert pack_part(plan, tmp_path, PackPart(9, 9), workers=1).videos == 0
    for number, of in ((0, 3), (4, 3)):
        with pytest.raises(InputError, match=f"part {number}/{of}"):
            PackPart(number, of)


def test_commands_at_the_same_time(synthetic_videos, plan: PackPlan, tmp_path: Path) -> None:
    bad = Path(shutil.copytree(synthetic_videos.videos, tmp_path / synthetic_videos.videos.name))
    next(bad.glob("*/*.avi")).write_text("no video")
    options = ["--splits", str(synthetic_videos.splits), "--size=32x43", "--workers=1", "--json"]
    program = "from pclkd.sharding.cli import main; main()"
    out = tmp_path / "out"
    runs = [
        subprocess.Popen(
            [sys.executable, "-c", program, "pack", str(bad), str(out), *options, f"--part={number}/3"],
            stdout=subprocess.PIPE,
        )
        for number in (1, 2, 3)
    ]
    told = [json.loads(run.communicate()[0]) for run in runs]
    assert [run.returncode for run in runs] == [0, 0, 0]
    assert sum(len(part["quarantined"]) for part in told) == 1
    done = CliRunner().invoke(main, ["finish", str(out), "--json"])
    assert done.exit_code == 3
    assert json.loads(done.stdout)["videos"] == 15
    pack = ["pack", str(bad), str(tmp_path / "whole"), *options]
    assert CliRunner().invoke(main, pack).exit_code == 3
    assert contents(out) == contents(tmp_path / "whole")
    assert CliRunner().invoke(main, [*pack, "--part=3"]).exit_code == 2
    assert CliRunner().invoke(main, [*pack, "--part=3/8", "--overwrite"]).exit_code == 2
