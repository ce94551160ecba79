import errno
import json
import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import click
import psutil
import pytest
from click.testing import CliRunner, Result

from pclkd.sharding.cli import main
from pclkd.sharding.common.console import CleanGroup
from pclkd.sharding.common.errors import InputError

PROGRAM = [sys.executable, "-c", "from pclkd.sharding.cli import main; main()"]


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def run_program(*arguments: object, **options) -> subprocess.CompletedProcess[str]:
    command = [*PROGRAM, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, **options)


def refused(result: Result, *told: str) -> None:
    assert result.exit_code == 2, result.output
    assert result.stderr.count("\n") == 1
    for word in ("error: ", *told):
        assert word in result.stderr


@pytest.mark.parametrize(
    "arguments", [["--help"], ["-h"], *([name, "--help"] for name in ("pack", "verify", "info", "preview"))]
)
def test_help_loads_nothing_heavy(arguments: list[str]) -> None:
    code = (
        "import sys, atexit\n"
        "heavy = {'av', 'numpy', 'PIL', 'rich', 'torch'}\n"
        "atexit.register(lambda: print(sorted(heavy & set(sys.modules)), file=sys.stderr))\n"
        "from pclkd.sharding.cli import main\n"
        "main()"
    )
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert "Usage:" in done.stdout
    assert done.stderr.strip() == "[]"


@pytest.mark.parametrize(("module", "told"), [("nowhere.py", "no such file"), ("no_such_module", "ModuleNotFound")])
def test_a_module_that_cannot_be_imported_is_told_in_a_line(module: str, told: str) -> None:
    refused(run("--import", module, "info", "out"), f"--import {module}", told)


def test_the_whole_way(tmp_path: Path) -> None:
    done = run(
        "synth", tmp_path, "--classes=2", "--groups=3", "--clips=1", "--frames=10", "--size=48x64", "--workers=1"
    )
    assert done.exit_code == 0, done.output
    assert "rendered 6 videos of 2 classes" in done.stdout
    lists = tmp_path / "ucfTrainTestlist"
    done = run(
        "pack", tmp_path / "UCF-101", tmp_path / "out", "--splits", lists, "--size=32x43", "--json", "--workers=1"
    )
    assert done.exit_code == 0, done.output
    summary = json.loads(done.stdout)
    assert (summary["videos"], summary["frames"], summary["source"]) == (6, 60, "UCF-101")
    assert summary["settings"] == {
        "height": 32,
        "width": 43,
        "short_side": 0,
        "fps": 0.0,
        "max_frames": 0,
        "quality": 90,
        "chroma": "4:2:0",
        "videos_per_shard": 128,
    }
    assert summary["splits"]["1"] == {"train": 4, "test": 2}
    assert run("verify", tmp_path / "out").exit_code == 0
    done = run("info", tmp_path / "out", "--json")
    told = json.loads(done.stdout)
    assert told.pop("statistics")["frames_per_video"]["mean"] == 10
    run_alone = {"seconds", "notes", "complete_already", "shards_kept", "shards_made", "retried", "videos_taken_over"}
    assert told == {name: value for name, value in summary.items() if name not in run_alone}
    assert (summary["shards_made"], summary["shards_kept"], summary["retried"]) == (1, 0, 0)
    done = run("pack", tmp_path / "UCF-101", tmp_path / "out", "--splits", lists, "--size=32x43", "--workers=1")
    assert done.exit_code == 0
    assert "already complete, checked in" in done.stdout
    text = run("info", tmp_path / "out").stdout
    assert summary["fingerprint"] in text
    assert "videos       6, 60 frames" in text


def test_quarantine_is_exit_code_3(synthetic_videos, tmp_path: Path) -> None:
    videos = Path(shutil.copytree(synthetic_videos.videos, tmp_path / "UCF-101"))
    (videos / "Rotate" / "v_Rotate_g01_c01.avi").write_text("no video")
    done = run("pack", videos, tmp_path / "out", "--splits", synthetic_videos.splits, "--size=32x43", "--workers=1")
    assert done.exit_code == 3
    assert "quarantined: Rotate/v_Rotate_g01_c01.avi is a text, no video" in done.stdout
    assert run("verify", tmp_path / "out").exit_code == 0
    assert "v_Rotate_g01_c01.avi" in run("info", tmp_path / "out").stdout


def test_missing_and_unlisted_are_a_warning_or_with_strict_an_error(synthetic_videos, tmp_path: Path) -> None:
    videos = Path(shutil.copytree(synthetic_videos.videos, tmp_path / "UCF-101"))
    victim = videos / "Rotate" / "v_Rotate_g01_c01.avi"
    victim.rename(victim.with_name("v_Rotate_g55_c01.avi"))
    arguments = ["pack", videos, tmp_path / "out", "--splits", synthetic_videos.splits, "--size=32x43", "--workers=1"]
    refused(run(*arguments, "--strict"), "1 videos listed in", "v_Rotate_g01_c01.avi")
    assert not (tmp_path / "out").exists()
    done = run(*arguments)
    assert done.exit_code == 0
    assert "warning: 1 videos listed but not on disk, the first is Rotate/v_Rotate_g01_c01.avi" in done.stdout
    assert "warning: 1 videos in no list, the first is Rotate/v_Rotate_g55_c01.avi" in done.stdout


def test_verify_names_the_damaged_video(synthetic_shards: Path, tmp_path: Path) -> None:
    shards = Path(shutil.copytree(synthetic_shards, tmp_path / "shards"))
    path = sorted(shards.glob("*.tar"))[0]
    with tarfile.open(path) as tar:
        member = tar.getmembers()[0]
    data = bytearray(path.read_bytes())
    data[member.offset_data + 2000] ^= 1
    path.write_bytes(data)
    done = run("verify", shards)
    assert done.exit_code == 1
    key = member.name.removesuffix(".mjpeg")
    assert f"damaged: {path.name}: video {key}: 1 of 96 frames are damaged" in done.stdout
    done = run("verify", shards, "--json")
    assert done.exit_code == 1
    assert json.loads(done.stdout)["damaged_videos"] == [key]


def test_bad_input_is_one_line_and_exit_code_2(synthetic_videos, synthetic_shards: Path, tmp_path: Path) -> None:
    videos, lists, out = synthetic_videos.videos, synthetic_videos.splits, tmp_path / "out"
    (tmp_path / "empty").mkdir()
    refused(run("pack", tmp_path / "nowhere", out, "--splits", lists), "nowhere")
    refused(run("pack", tmp_path / "empty", out, "--splits", lists), "empty", "class folders")
    refused(run("pack", videos.parent, out, "--splits", lists), f"give {videos}")
    refused(run("pack", videos, out, "--splits", tmp_path / "empty"), "classInd.txt")
    refused(run("pack", videos, out, "--splits", lists, "--quality=0"), "quality of 0")
    refused(run("pack", videos, out, "--splits", lists, "--size=0x43"), "0x43")
    refused(run("pack", videos, synthetic_shards, "--splits", lists), "finished shard set", "height 64", "--overwrite")
    refused(run("pack", videos, out, "--splits", lists, "--file-timeout=0"), "time limit of 0.0 s")
    refused(run("pack", videos, out, "--splits", lists, "--ray-address=x"), "--engine ray")
    refused(run("synth", tmp_path / "s", "--classes=99"), "classes = 99")
    for command in ("info", "verify"):
        refused(run(command, tmp_path / "empty"), "no finished shard set", "pack")
        refused(run(command, tmp_path / "nowhere"), "nowhere")
    assert not out.exists()


@pytest.mark.parametrize(
    ("job", "told"),
    [
        ({"RANK": "0", "WORLD_SIZE": "4"}, "error: no folder"),
        ({"RANK": "3", "WORLD_SIZE": "4"}, ""),  # the first process tells
        ({"RANK": "3"}, "error: no folder"),  # left over from somewhere
    ],
)
def test_one_process_of_a_job_tells_what_all_refuse(job: dict[str, str], told: str, tmp_path: Path) -> None:
    done = run_program("pack", tmp_path / "nowhere", tmp_path / "out", env={**os.environ, **job})
    assert (done.returncode, done.stderr.count("\n")) == (2, bool(told))
    assert done.stderr.startswith(told)


def test_each_process_of_a_job_tells_what_it_alone_may_meet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    @click.group(cls=CleanGroup)
    def tool() -> None:
        pass

    @tool.command()
    @click.argument("at_work", type=bool)
    def work(at_work: bool) -> None:
        error = InputError("the store is away", remedy="wait") if at_work else OSError(errno.ENOSPC, "disk full")
        error.met_at_work = at_work  # type: ignore[union-attr]
        raise error

    monkeypatch.setenv("RANK", "3")
    monkeypatch.setenv("WORLD_SIZE", "4")
    assert CliRunner().invoke(tool, ["work", "true"]).output == "rank 3: error: the store is away - wait\n"
    assert CliRunner().invoke(tool, ["work", "false"]).output.startswith("rank 3: error: disk full - ")


@pytest.mark.parametrize("seconds", ["inf", "3e6", "1e300"])
def test_a_time_limit_may_be_as_long_as_one_likes(synthetic_videos, tmp_path: Path, seconds: str) -> None:
    options = ["--splits", synthetic_videos.splits, "--size=32x43", "--max-frames=8", "--file-timeout", seconds]
    assert run("pack", synthetic_videos.videos, tmp_path / "out", *options).exit_code == 0


def test_options_that_would_do_nothing_are_usage_errors(synthetic_shards: Path, tmp_path: Path) -> None:
    for command, told in (
        (["pack", "a", "b", "--salvage-frames=10"], "--salvage-frames is for --salvage"),
        (["preview", synthetic_shards, "--out", tmp_path, "--frames=5"], "say --video too"),
    ):
        done = run(*command)
        assert (done.exit_code, told in done.stderr) == (2, True)
    assert list(tmp_path.iterdir()) == []


def test_wrong_size_is_a_usage_error() -> None:
    done = run("pack", "a", "b", "--splits", "c", "--size", "128*171")
    assert done.exit_code == 2
    assert "'128*171' is neither HEIGHTxWIDTH" in done.stderr


def _limit_file_size() -> None:
    import resource

    resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, 60_000))


@pytest.mark.parametrize("workers", [1, 2])
def test_no_room_for_a_file_is_one_line(synthetic_videos, tmp_path: Path, workers: int) -> None:
    arguments = ["pack", synthetic_videos.videos, tmp_path / "out", "--splits", synthetic_videos.splits]
    done = run_program(*arguments, "--workers", workers, preexec_fn=_limit_file_size)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith(f"error: File too large ({tmp_path / 'out'}")
    assert "Traceback" not in done.stderr
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize("command", ["pack", "synth"])
def test_full_disk_is_one_line(synthetic_videos, tmp_path: Path, command: str) -> None:
    (tmp_path / "small").mkdir()
    out = tmp_path / "small" / "out"
    mount = f"mount -t tmpfs -o size=300k tmpfs {tmp_path / 'small'}"
    if subprocess.run(["unshare", "-rm", "sh", "-c", mount], capture_output=True, check=False).returncode != 0:
        pytest.skip("no user namespaces to mount a small disk in")
    arguments = [out] if command == "synth" else [synthetic_videos.videos, out, "--splits", synthetic_videos.splits]
    script = f'{mount} && "$@"; code=$?; ls -A {out}; exit $code'
    program = ["unshare", "-rm", "sh", "-c", script, "sh", *PROGRAM, command, *map(str, arguments)]
    done = subprocess.run(program, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: No space left on device ({out}")
    assert done.stderr.count("\n") == 1
    assert all(line.startswith("note: ") for line in done.stdout.splitlines()), "no file is left in the folder"


def test_killed_run_leaves_no_half_file_under_a_final_name_and_can_be_repeated(
    synthetic_videos, held_packing, until, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    process = held_packing(out, 128, 171, lambda: list(out.glob("*.tar")))
    children = psutil.Process(process.pid).children(recursive=True)
    assert children
    process.kill()
    process.wait()
    until(lambda: not psutil.wait_procs(children, timeout=1)[1])
    assert not (out / "manifest.json").exists()
    for shard in out.glob("*.tar"):
        assert shard.stat().st_size % 10240 == 0
        with tarfile.open(shard) as tar:
            assert {member.name.partition(".")[2] for member in tar} == {"mjpeg", "json"}
    refused(run("info", out), "no finished shard set")
    arguments = ["pack", synthetic_videos.videos, out, "--splits", synthetic_videos.splits, "--size=128x171"]
    assert run(*arguments, "--workers=1").exit_code == 0
    assert run("verify", out).exit_code == 0
    assert not list(out.rglob("*.part"))


def test_progress_off_a_terminal_is_lines_not_a_bar(synthetic_videos, tmp_path: Path, monkeypatch, capsys) -> None:
    from pclkd.sharding.common import console as progress

    monkeypatch.setattr(progress, "_SECONDS_BETWEEN_LINES", 0.0)
    with progress.show_progress("packing", 4, "videos") as step:
        for number in range(4):
            step(str(number))
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 4
    assert lines[-1].startswith("packing: 4/4 videos, ")
    assert lines[-1].endswith(" 0 s left")
