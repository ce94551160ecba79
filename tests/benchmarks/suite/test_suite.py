"""Everything in one call: sections in processes of their own, of which one may fail, hang or be killed."""

import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
from click.testing import CliRunner
from PIL import Image

from pclkd.benchmarks.cli import main
from pclkd.benchmarks.measuring.result import BenchmarkResult, make_result, read_result, write_result
from pclkd.benchmarks.suite.result import joined_result, show_summary, write_charts
from pclkd.benchmarks.suite.run import SectionFailedError, run_section
from pclkd.benchmarks.suite.sections import SECTIONS, Material
from pclkd.sharding.packing.pack import pack_videos, plan_packing
from pclkd.sharding.synth.dataset import LISTS_FOLDER, VIDEOS_FOLDER, SynthSettings, render_dataset

PATIENCE_S = 900.0
ALL = [sys.executable, "-m", "pclkd.benchmarks.cli", "all"]


@pytest.fixture(scope="module")
def few_videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """6 videos: too few for a batch of any loader."""
    root = tmp_path_factory.mktemp("few")
    render_dataset(root, SynthSettings(classes=2, groups=3, clips=1, frames=8, seed=3, height=48, width=64), workers=1)
    pack_videos(
        plan_packing(root / VIDEOS_FOLDER, root / LISTS_FOLDER, height=32, width=43), root / "shards", workers=1
    )
    return root / "shards"


def sections_of(process: psutil.Process) -> list[psutil.Process]:
    # A child that ends while it is looked at is none; only what else is wrong would be an error.
    return [child for child in process.children(recursive=True) if "pclkd.benchmarks" in command_of(child)]


def command_of(process: psutil.Process) -> list[str]:
    with suppress(psutil.NoSuchProcess):  # and ZombieProcess, a kind of it
        return process.cmdline()
    return []


def wait_for_section(process: psutil.Process, limit_s: float = PATIENCE_S) -> psutil.Process:
    deadline = time.monotonic() + limit_s
    while time.monotonic() < deadline:
        if found := sections_of(process):
            return found[0]
        time.sleep(0.02)
    raise TimeoutError("no section began")


def test_without_any_data_it_measures_on_rendered_videos(tmp_path: Path) -> None:
    command = [
        *ALL,
        "--minutes",
        "60",
        "--rounds",
        "3",
        "--only",
        "load_plain",
        "--json",
        tmp_path / "all.json",
        "--chart",
        tmp_path,
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    result = read_result(tmp_path / "all.json")
    assert result.benchmark == "all"
    assert [figure.name for figure in result.results][:2] == ["load_plain/pclkd", "load_plain/decode_only"]
    assert result["load_plain/pclkd"].bound in {"load_plain/decode_only", "load_plain/range_reads"}
    assert len(result["load_plain/pclkd"].values) == 3
    assert result.settings["load_plain/recipe"] == "plain"
    assert result.settings["load_plain/stored_frames"] == "128x171"
    assert result.settings["minutes"] == 60
    assert any("rendered videos" in note for note in result.notes)
    assert "== load_plain" in done.stdout and "load_plain/pclkd" in done.stdout
    assert (tmp_path / "load_plain.png").is_file()
    # No other file is left, and what was rendered is gone.
    assert sorted(path.name for path in tmp_path.iterdir()) == ["all.json", "load_plain.png"]


def test_a_section_that_fails_is_named_and_the_rest_goes_on(few_videos: Path, tmp_path: Path) -> None:
    command = [*ALL, "--minutes", "60", "--rounds", "3", "--data", few_videos, "--json", tmp_path / "all.json"]
    command += ["--only", "shard", "--only", "load_plain", "--only", "step"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    result = read_result(tmp_path / "all.json")
    assert result.missing["shard"] == "--videos is not given"
    assert result.missing["load_plain"].startswith("exit code 2: ")
    assert "do not fill a batch of 16" in result.missing["load_plain"]
    assert {figure.name.partition("/")[0] for figure in result.results} == {"step"}
    assert "== load_plain is missing" in done.stdout
    assert "- missing: load_plain" in done.stdout


def test_where_nothing_can_be_measured_it_says_why(few_videos: Path) -> None:
    command = ["all", "--minutes", "0.001", "--data", str(few_videos), "--only", "teacher"]
    done = CliRunner().invoke(main, command)
    assert done.exit_code == 2
    assert "teacher: no time was left" in done.stderr.splitlines()[-1]


def test_a_section_that_hangs_is_ended_with_its_processes(tmp_path: Path) -> None:
    with pytest.raises(SectionFailedError, match="ended after 1 s"):
        run_section(["teacher"], budget_s=60, limit_s=1, scratch=tmp_path)
    assert not sections_of(psutil.Process())


def test_a_section_that_crashes_is_told(tmp_path: Path) -> None:
    def kill() -> None:
        wait_for_section(psutil.Process()).send_signal(signal.SIGSEGV)

    killer = threading.Thread(target=kill)
    killer.start()
    with pytest.raises(SectionFailedError, match="ended by SIGSEGV"):
        run_section(["teacher"], budget_s=PATIENCE_S, limit_s=PATIENCE_S, scratch=tmp_path)
    killer.join()


def test_a_section_that_is_killed_leaves_the_rounds_before(tmp_path: Path) -> None:
    def kill() -> None:
        section = wait_for_section(psutil.Process())
        while not (tmp_path / "result.json").exists():
            time.sleep(0.01)
        section.kill()

    killer = threading.Thread(target=kill, daemon=True)
    killer.start()
    small = ["teacher", "--width", "0.05", "--frames", "8", "--crop", "16", "--batch-size", "1", "--rounds", "10000"]
    result = run_section([*small, "--min-seconds", "0"], budget_s=PATIENCE_S, limit_s=PATIENCE_S, scratch=tmp_path)
    killer.join()
    assert result.benchmark == "teacher" and 1 <= len(result["pcl"].values) < 10_000
    assert result.notes[0].startswith("the rounds until it was cut off: ended by SIGKILL")


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_whoever_ends_it_ends_its_section(how: signal.Signals, few_videos: Path) -> None:
    command = [*ALL, "--minutes", "60", "--data", few_videos, "--only", "teacher"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        section = wait_for_section(psutil.Process(process.pid))
        process.send_signal(how)
    assert process.returncode == (-how if how == signal.SIGKILL else 128 + how)
    section.wait(timeout=PATIENCE_S)


@pytest.mark.parametrize("gpu", [False, True])
@pytest.mark.parametrize("seconds", [-3.0, 10.0, 60.0, 3000.0])
def test_the_commands_of_all_sections_are_understood(gpu: bool, seconds: float, tmp_path: Path) -> None:
    material = Material(tmp_path, tmp_path, tmp_path / "videos", tmp_path / "lists", 2, gpu)
    for section in SECTIONS:
        name, *arguments = section.arguments(material, seconds)
        command = main.commands[name]
        command.make_context(name, [*arguments, "--minutes", "0.5", "--json", str(tmp_path / "x.json")])
        assert section.share(material) > 0
    assert len({section.name for section in SECTIONS}) == len(SECTIONS)


def parts(factor: float = 1.0) -> dict[str, BenchmarkResult]:
    steady = [factor * value for value in (100.0, 101, 99, 100, 100, 101)]
    load = make_result(
        "load",
        "clips/s",
        {"pclkd": steady, "decode_only": [2 * value for value in steady]},
        "pclkd",
        {"crop": 112},
        bounds={"pclkd": ["decode_only"]},
        notes=["in the page cache"],
    )
    peers = make_result(
        "peers",
        "clips/s",
        {"pclkd": steady, "torch": [value / 8 for value in steady]},
        "pclkd",
        {"crop": 96},
        extra={"torch": {"pclkd_times": 8.0}},
        missing={"decord": "not installed"},
    )
    return {"load_plain": load, "peers_plain": peers}


def test_sections_keep_their_names_bounds_and_settings(tmp_path: Path) -> None:
    result = joined_result(parts(), {"shard": "crashed"}, {"minutes": 8.0}, ["on the whole"])
    write_result(result, tmp_path / "all.json")
    assert read_result(tmp_path / "all.json") == result
    assert [figure.name for figure in result.results] == [
        *("load_plain/pclkd", "load_plain/decode_only"),
        *("peers_plain/pclkd", "peers_plain/torch"),
    ]
    assert result["load_plain/pclkd"].bound == "load_plain/decode_only"
    assert result["load_plain/pclkd"].of_bound_pct == pytest.approx(50)
    assert result.bounding == ["load_plain/decode_only"]
    assert result.missing == {"shard": "crashed", "peers_plain/decord": "not installed"}
    assert result.settings["load_plain/crop"] == 112
    assert result.settings["peers_plain/crop"] == 96
    assert result.settings["peers_plain/base"] == "pclkd"
    assert result.notes == ["on the whole", "load_plain: in the page cache"]


def test_the_summary_has_every_figure_beside_its_bound_and_its_peers() -> None:
    lines = show_summary(joined_result(parts(), {"shard": "crashed"}, {}, ["on the whole"])).splitlines()
    ours = next(line.split() for line in lines if line.startswith("load_plain/pclkd"))
    assert ours[-3:] == ["50", "%", "decode_only"]
    peer = next(line.split() for line in lines if line.startswith("peers_plain/torch"))
    assert peer[-1] == "8"
    assert "- missing: shard (crashed)" in lines
    assert "- on the whole" in lines
    assert "- load_plain: in the page cache" not in lines  # it stood under the section's own table


def test_two_runs_of_everything_compare(tmp_path: Path) -> None:
    for name, factor in (("a.json", 1.0), ("b.json", 0.5)):
        write_result(joined_result(parts(factor), {}, {}, []), tmp_path / name)
    done = CliRunner().invoke(main, ["compare", str(tmp_path / "a.json"), str(tmp_path / "b.json")])
    assert done.exit_code == 1
    line = next(line for line in done.output.splitlines() if line.startswith("peers_plain/torch"))
    assert line.endswith("slower")


def test_charts_go_to_a_folder_or_to_one_sheet(tmp_path: Path) -> None:
    write_charts(parts(), tmp_path / "charts")
    singles = [tmp_path / "charts" / f"{name}.png" for name in parts()]
    write_charts(parts(), tmp_path / "sheet.png")
    with Image.open(tmp_path / "sheet.png") as sheet:
        widths = [Image.open(path).width for path in singles]
        assert sheet.width > sum(widths)  # side by side
        assert sheet.height == max(Image.open(path).height for path in singles)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--videos", "{here}"], "give --data as well"),
        (["--data", "{here}/none"], "none"),
        (["--data", "{few}", "--splits", "{here}"], "give --videos as well"),
        (["--data", "{few}", "--only", "shard"], "give the originals as --videos"),
        (["--json", "{here}/x.png", "--chart", "{here}/x.png"], "give two files"),
        (["--json", "{here}/none/x.json"], "cannot write"),
        (["--chart", "{here}/none/x.png"], "cannot write"),
        (["--only", "lunch"], "lunch"),
        (["--minutes", "0"], "minutes"),
    ],
)
def test_wrong_input_is_told_before_anything_is_measured(
    arguments: list[str], told: str, few_videos: Path, tmp_path: Path
) -> None:
    done = CliRunner().invoke(main, ["all", *(part.format(here=tmp_path, few=few_videos) for part in arguments)])
    assert done.exit_code == 2
    assert told in done.stderr
