import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from pclkd.benchmarks.cli import main
from pclkd.benchmarks.measuring.clip_shape import ClipShape
from pclkd.benchmarks.measuring.result import BenchmarkResult
from pclkd.benchmarks.peers.videos import VIDEO_READERS, missing_library
from pclkd.benchmarks.steps.case import StepNetworks, random_batch
from pclkd.sharding.common.storage import put

TINY = ["--rounds", "2", "--min-seconds", "0"]
SMALL_NETWORKS = ["--width", "0.05", "--batch-size", "2", "--frames", "8", "--crop", "16"]


pytestmark = pytest.mark.usefixtures("one_thread")


def measure(tmp_path, *command):
    file = tmp_path / "result.json"
    done = CliRunner().invoke(main, [*map(str, command), *TINY, "--json", str(file)], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    result = BenchmarkResult.model_validate_json(file.read_text())
    for case in result.results:
        assert len(case.values) == 2
        assert all(value > 0 for value in case.values)
        assert case.name in done.output
    assert result[result.base].ratio == 1
    assert result.env["torch"]
    return result


def names(result):
    return [case.name for case in result.results]


def test_load_beside_its_bounds(tmp_path, synthetic_shards):
    command = ("load", "--data", synthetic_shards, "--batch-size", 2, "--frames", 8, "--samples", 5, "--workers", 1)
    result = measure(tmp_path, *command)
    assert (result.benchmark, result["pclkd"].unit, result.base) == ("load", "clips/s", "pclkd")
    assert names(result) == ["pclkd", "decode_only", "range_reads"]
    # 5 samples are two whole batches of 2, 3 clips each; 112 pixels do not fit 64x86.
    assert result.settings["clips_per_pass"] == 12
    assert result.settings["crop"] == 64
    bound = min(("decode_only", "range_reads"), key=lambda name: result[name].median)
    share = np.median(np.array(result["pclkd"].values) / np.array(result[bound].values))
    assert (result["pclkd"].bound, result["pclkd"].of_bound_pct) == (bound, pytest.approx(100 * share))
    assert result.bounding == ["decode_only", "range_reads"]
    assert result.notes[0].startswith(f"{bound} is the nearer bound")


def test_load_and_train_from_a_url(tmp_path, synthetic_shards, monkeypatch):
    monkeypatch.setenv("PCLKD_CACHE", str(tmp_path / "cache"))
    for path in synthetic_shards.rglob("*"):
        if path.is_file():
            put(path, f"memory://measured/{path.relative_to(synthetic_shards)}")
    command = ("--data", "memory://measured", "--batch-size", 2, "--frames", 8)
    assert names(measure(tmp_path, "load", *command, "--samples", 4, "--workers", 1))[0] == "pclkd"
    measure(tmp_path, "train", *command, "--width", "0.05", "--crop", "16", "--steps", 1)
    for refused in (("scale", "--videos", "40"), ("peers",)):
        done = CliRunner().invoke(main, [refused[0], "--data", "memory://measured", *refused[1:]])
        assert done.exit_code == 2 and "reads files, and memory://measured is none" in done.stderr


def test_load_with_the_full_recipe_shows_both_ways_to_colour(tmp_path, synthetic_shards):
    command = ("load", "--data", synthetic_shards, "--recipe", "full", "--batch-size", 4, "--frames", 8, "--samples", 8)
    result = measure(tmp_path, *command)
    fused = [] if torch.cuda.is_available() else ["augment_fused"]
    assert names(result) == ["pclkd", "decode_only", "range_reads", "augment_dali", *fused]


def test_load_with_several_numbers_of_threads(tmp_path, synthetic_shards):
    command = ("load", "--data", synthetic_shards, "--batch-size", 2, "--frames", 8, "--samples", 4, "--threads", "2,1")
    result = measure(tmp_path, *command)
    assert names(result)[3:] == ["pclkd_1_threads", "pclkd_2_threads", "2_x_1_threads"]
    assert result["2_x_1_threads"].median == pytest.approx(2 * result["pclkd_1_threads"].median)
    assert result["pclkd_2_threads"].bound == "2_x_1_threads"


def test_peers_in_one_run(tmp_path, synthetic_shards, synthetic_videos):
    result = measure(
        tmp_path,
        *("peers", "--data", synthetic_shards, "--videos", synthetic_videos.videos),
        *("--splits", synthetic_videos.splits, "--batch-size", 4, "--frames", 8, "--samples", 8, "--workers", 2),
    )
    readers = [name for name in VIDEO_READERS if not missing_library(name)]
    assert names(result) == ["pclkd", *readers, "torch_webdataset", "torch_folders", "dali_webdataset", "decode_only"]
    assert (result.bounding, result["pclkd"].bound) == (["decode_only"], "decode_only")
    assert result.missing == {name: missing_library(name) for name in VIDEO_READERS if name not in readers}
    assert not any("OTHER CLIPS" in note for note in result.notes)
    assert all(case.extra["cpu_ms_per_clip"] >= 0 for case in result.results[:-1])
    for case in result.results[1:-1]:
        ratios = np.array(result["pclkd"].values) / np.array(case.values)
        assert case.extra["pclkd_times"] == pytest.approx(np.median(ratios))
        assert case.extra["times_low"] == pytest.approx(ratios.min())
        assert case.extra["grey_levels_apart"] < 8.0


def test_peers_without_the_originals_name_their_readers(tmp_path, synthetic_shards):
    command = ("peers", "--data", synthetic_shards, "--batch-size", 4, "--frames", 8, "--samples", 4, "--workers", 1)
    result = measure(tmp_path, *command)
    assert names(result) == ["pclkd", "torch_webdataset", "torch_folders", "dali_webdataset", "decode_only"]
    assert result.missing == dict.fromkeys(VIDEO_READERS, "--videos is not given")


def test_step_with_and_without_a_teacher(tmp_path):
    result = measure(tmp_path, "step", "--backbone", "r3d", "--teacher", "c3d", *SMALL_NETWORKS)
    assert (result["pcl"].unit, result.base) == ("samples/s", "pcl")
    assert names(result) == ["pcl", "pcl_kd", "matrix_limit", "matrix_limit_pcl_kd"]
    for case in result.results:
        assert case.extra["clips_per_s"] == pytest.approx(3 * case.median)
        assert case.extra["ms_per_step"] == pytest.approx(1000 * 2 / case.median)
        assert case.extra["tflop_per_s"] == pytest.approx(case.extra["tflop_per_step"] * case.median / 2)
    assert result.settings["teacher"] == "c3d"
    assert result.settings["crop"] == 16


def test_train_end_to_end(tmp_path, synthetic_shards):
    result = measure(tmp_path, "train", "--data", synthetic_shards, "--steps", 2, *SMALL_NETWORKS)
    assert result.base == "step_alone"
    assert names(result) == ["end_to_end", "step_alone", "loader_alone"]
    extra = result["end_to_end"].extra
    assert 0 <= extra["time/data_wait_pct"] <= 100
    step, loader = (np.array(result[name].values) for name in ("step_alone", "loader_alone"))
    slower = "step" if np.median(step) < np.median(loader) else "loader"
    assert result["end_to_end"].bound == f"{slower}_alone"
    assert result.notes[0].startswith(f"the {slower} is the slower side")
    if not torch.cuda.is_available():
        assert extra["shared_cores_bound"] == pytest.approx(np.median(step * loader / (step + loader)))
        assert all(case.extra["cores_used"] > 0 for case in result.results)
    assert result.settings["steps_per_pass"] == 2


def test_the_teacher_costs_one_forward_pass_and_no_backward():
    """What torch counts against multiply-adds counted by hand, for a C3D of 8 channels throughout."""
    shape, device = ClipShape(2, 8, 16), torch.device("cpu")
    networks = StepNetworks("r3d", "c3d", 0.01)
    batch = random_batch(shape, 9, device)
    pcl, kd = (networks.count(batch, 9, distil=distil) for distil in (False, True))
    # Frames x height x width at each of C3D's convolutions: pooling halves them, the first one space alone.
    voxels = [8 * 16 * 16, 8 * 8 * 8, 4 * 4 * 4, 4 * 4 * 4, 2 * 2 * 2, 2 * 2 * 2, 1, 1]
    inputs = [3] + 7 * [8]
    convolutions = sum(27 * 8 * channels * places for channels, places in zip(inputs, voxels, strict=True))
    clips, samples = 6, 2
    heads = samples * (3 * 8 * 5 + 2 * (8 * 8 + 8 * 128))
    banks = samples * 2 * (1 + 1024) * 128
    assert (kd - pcl) * 1e12 == pytest.approx(2 * (clips * convolutions + heads + banks), rel=1e-9)


@pytest.mark.parametrize(
    ("command", "told"),
    [
        (["load", "--data", "{none}"], "none"),
        (["peers", "--data", "{shards}", "--videos", "{none}", "--splits", "{none}"], "none"),
        (["peers", "--data", "{shards}", "--videos", "{empty}"], "{empty}"),
        (["load", "--data", "{shards}", "--crop", "200"], "--crop 200"),
        (["load", "--data", "{shards}", "--crop", "17"], "--crop 17"),
        (["load", "--data", "{shards}", "--frames", "6"], "--frames 6"),
        (["step", "--frames", "4"], "--frames 4"),
        (["load", "--data", "{shards}", "--batch-size", "99"], "--batch-size"),
        (["train", "--data", "{shards}", "--split", "9"], "no split 9"),
        (["train", "--data", "{shards}", "--batch-size", "99"], "--batch-size"),
        (["step", "--backbone", "r3e"], "did you mean 'r3d'"),
        (["step", "--width", "0"], "width"),
        (["step", "--json", "{none}/x.json"], "x.json"),
        (["peers", "--data", "{shards}", "--splits", "{empty}"], "--splits {empty} does not go with"),
        (["scale", "--data", "{shards}", "--videos", "64", "--backbone", "r3d"], "--backbone r3d does not go with"),
        (["scale", "--data", "{shards}", "--videos", "64", "--split", "77"], "--split 77 does not go with"),
        (["scale", "--data", "{shards}", "--processes", "1", "--scratch", "{empty}"], "--scratch {empty} does not go"),
    ],
)
def test_wrong_input_ends_in_one_line(tmp_path, synthetic_shards, command, told):
    (tmp_path / "empty").mkdir()
    places = {"shards": synthetic_shards, "none": tmp_path / "none", "empty": tmp_path / "empty"}
    command, told = [part.format(**places) for part in command], told.format(**places)
    done = CliRunner().invoke(main, command, catch_exceptions=False)
    assert done.exit_code == 2
    assert told in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


@pytest.mark.parametrize("command", [["--help"], ["load", "--help"], ["gpu", "--help"]])
def test_help_loads_nothing_heavy(command):
    """What a start takes is what it imports: counted, since the clock of a busy machine tells nothing."""
    code = (
        "import atexit, sys\n"
        "heavy = {'av', 'matplotlib', 'numpy', 'nvidia', 'PIL', 'torch', 'torchvision', 'webdataset'}\n"
        "atexit.register(lambda: print(sorted(heavy & set(sys.modules)), file=sys.stderr))\n"
        "from pclkd.benchmarks.cli import main\n"
        "main()"
    )
    done = subprocess.run([sys.executable, "-c", code, *command], capture_output=True, text=True, check=True)
    assert "Usage" in done.stdout
    assert done.stderr.strip() == "[]"


def test_json_is_nothing_but_json(tmp_path):
    measure(tmp_path, "step", *SMALL_NETWORKS)
    content = json.loads((tmp_path / "result.json").read_text())
    told = {"format_version", "benchmark", "base", "results", "bounding", "missing", "env", "settings", "notes"}
    assert set(content) == told
