"""Jobs of 1 and 2 real processes: what they exchange is counted, and compared with what arithmetic says."""

import json
import re
import signal
import subprocess
import sys
from pathlib import Path
from statistics import median

import psutil
import pytest
import torch
from click.testing import CliRunner

from pclkd.benchmarks.cli import main
from pclkd.benchmarks.measuring.counters import CollectiveBytes
from pclkd.benchmarks.measuring.result import BenchmarkResult, read_result
from pclkd.benchmarks.processes.benchmark import usual_processes
from pclkd.benchmarks.processes.job import JobFailedError, TrainingJob
from pclkd.benchmarks.processes.probe import JobPlan
from pclkd.pipeline.world import World
from pclkd.sharding.common.errors import InputError
from pclkd.training.models.pcl_model import PclModel
from pclkd.training.models.registry import build_backbone

TWO_CORES = pytest.mark.skipif(World().cores < 2 or torch.cuda.is_available(), reason="needs two cores and no GPU")
SCALING = Path(__file__).resolve().parents[3] / "docs" / "scaling.md"
BATCH, STEPS, WIDTH = 2, 2, 0.05


def plan(data: Path) -> JobPlan:
    return JobPlan(str(data), 1, "r3d", None, WIDTH, BATCH, 8, 16, STEPS)


@pytest.fixture(scope="module")
def found(synthetic_shards: Path, tmp_path_factory: pytest.TempPathFactory) -> BenchmarkResult:
    file = tmp_path_factory.mktemp("processes") / "result.json"
    command = ["scale", "--data", synthetic_shards, "--processes", "1,2", "--steps", STEPS, "--width", WIDTH]
    command += ["--batch-size", BATCH, "--frames", 8, "--crop", 16, "--rounds", 3, "--min-seconds", 0, "--json", file]
    done = CliRunner().invoke(main, list(map(str, command)), catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return read_result(file)


@TWO_CORES
def test_two_processes_beside_one_and_beside_twice_one_core(found: BenchmarkResult) -> None:
    assert [figure.name for figure in found.results] == ["1_process", "2_processes", "2_times_one"]
    assert not found.missing
    assert found["2_processes"].bound == "2_times_one"
    pairs = zip(found["2_processes"].values, found["2_times_one"].values, strict=True)
    assert found["2_processes"].of_bound_pct == pytest.approx(100 * median(rate / limit for rate, limit in pairs))
    # On a CPU both jobs have the same cores.
    pairs = zip(found["2_processes"].values, found["1_process"].values, strict=True)
    assert found["2_processes"].extra["efficiency_pct"] == pytest.approx(100 * median(two / one for two, one in pairs))
    cores = World().cores
    threads = [found[name].extra["threads_per_process"] for name in ("1_process", "2_processes")]
    assert threads == [cores, cores // 2]


@TWO_CORES
def test_what_a_step_exchanges_is_what_arithmetic_says(found: BenchmarkResult) -> None:
    model = PclModel(build_backbone("r3d", WIDTH))
    told = found["2_processes"].extra
    assert told["mib_all_reduced"] * 2**20 == 4 * sum(weight.numel() for weight in model.parameters())
    # Of each sample its number (8 bytes) and two embeddings of 128 float32 for the two banks, from both ranks.
    assert told["kib_all_gathered"] * 2**10 == 2 * BATCH * (8 + 2 * 128 * 4)
    # Batch norm: mean, variance and the count of batches go out from the first rank.
    assert told["kib_broadcast"] * 2**10 == sum(buffer.numel() * buffer.element_size() for buffer in model.buffers())
    alone = found["1_process"].extra
    assert [alone[name] for name in ("mib_all_reduced", "kib_all_gathered", "kib_broadcast")] == [0, 0, 0]


@TWO_CORES
def test_every_sample_is_read_in_few_ranges(found: BenchmarkResult) -> None:
    for name in ("1_process", "2_processes"):
        # Three clips of 8 frames lie in at most three stretches of a video.
        assert 1 <= found[name].extra["reads"] <= 3
        assert 24 * 0.3 < found[name].extra["kib_read"] < 36 * 6  # frames of 64x86 are 1 to 4 kB


def test_a_job_that_cannot_start_says_why(tmp_path: Path) -> None:
    with TrainingJob(plan(tmp_path / "none"), 1, 1, tmp_path) as job, pytest.raises(JobFailedError, match="none"):
        job.ready()


def test_a_job_is_gone_when_the_one_who_started_it_is_killed(synthetic_shards: Path, tmp_path: Path) -> None:
    program = """
import sys, time
from pathlib import Path
from pclkd.benchmarks.processes.job import TrainingJob
from pclkd.benchmarks.processes.probe import JobPlan
import json
job = TrainingJob(JobPlan(**json.loads(sys.argv[1])), 1, 1, Path(sys.argv[2]))
job.ready()
print(sum(told["samples"] for told in job.run_pass()), flush=True)
time.sleep(10_000)
"""
    command = [sys.executable, "-c", program, plan(synthetic_shards).to_json(), str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as starter:
        assert starter.stdout is not None
        assert starter.stdout.readline().strip() == str(STEPS * BATCH)
        family = psutil.Process(starter.pid).children(recursive=True)
        assert any("pclkd.benchmarks.processes.probe" in process.cmdline() for process in family)
        starter.send_signal(signal.SIGKILL)
    gone, alive = psutil.wait_procs(family, timeout=900)
    for process in alive:
        process.kill()
    assert not alive and gone


def test_a_path_that_is_too_long_for_a_socket_is_told(tmp_path: Path) -> None:
    deep = tmp_path / ("x" * 100)
    deep.mkdir()
    with pytest.raises(InputError, match="too long"):
        TrainingJob(plan(tmp_path), 1, 1, deep)


def test_the_documented_numbers_of_parameters_are_those_of_the_code() -> None:
    rows = re.findall(r"^\| (\S+) \| ([\d,]{9,}) \| ([\d.]+) MB", SCALING.read_text(), re.MULTILINE)
    names = {"C3D": "c3d", "R3D": "r3d", "R(2+1)D": "r2plus1d", "R3D-18": "r3d18", "R(2+1)D-18": "r2plus1d18"}
    assert [name for name, *_ in rows] == list(names)
    for name, told, megabytes in rows:
        with torch.device("meta"):
            model = PclModel(build_backbone(names[name], 1.0))
        parameters = sum(weight.numel() for weight in model.parameters())
        assert int(told.replace(",", "")) == parameters, name
        assert float(megabytes) == pytest.approx(4 * parameters / 1e6, abs=0.05)


def test_the_results_that_scaling_quotes_are_there() -> None:
    linked = re.findall(r"\]\((\S+?\.(?:json|png))\)", SCALING.read_text())
    assert len(linked) >= 4
    for link in linked:
        assert (SCALING.parent / link).is_file(), link


def test_nothing_is_counted_where_nothing_is_exchanged() -> None:
    layer = torch.nn.Linear(3, 4)
    with CollectiveBytes() as counted:
        layer(torch.ones(2, 3)).sum().backward()
    assert layer.weight.grad is not None
    assert counted.by_kind == {}


def test_usual_sizes_are_powers_of_two_up_to_the_machine() -> None:
    most = min(torch.cuda.device_count() or World().cores, 8)
    sizes = usual_processes()
    assert sizes[0] == 1 and sizes[-1] == most
    assert all(size & (size - 1) == 0 for size in sizes[:-1])


@pytest.mark.parametrize(
    ("processes", "told"), [("4096", "4096 processes"), ("1,x", "1,x"), ("0", "numbers from 1 on")]
)
def test_wrong_numbers_of_processes_are_told(processes: str, told: str, synthetic_shards: Path) -> None:
    done = CliRunner().invoke(main, ["scale", "--data", str(synthetic_shards), "--processes", processes])
    assert done.exit_code == 2
    assert told in done.stderr


def test_the_plan_of_a_job_comes_through_its_command_line(tmp_path: Path) -> None:
    made = plan(tmp_path)
    assert JobPlan(**json.loads(made.to_json())) == made
    assert "\n" not in made.to_json()
