"""The whole command with tiny sizes: no row dies of a slip where there is a GPU at last."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from pclkd.benchmarks.cli import main
from pclkd.benchmarks.gpu.rows import Row, read_rows
from pclkd.benchmarks.gpu.sections import SECTIONS

COMMAND = [sys.executable, "-m", "pclkd.benchmarks.cli", "gpu", "--dry-run", "--out"]
# Rows that a CPU cannot take to their end.
GPU_ONLY = {
    *("health/matrix_fp16", "health/conv3d_fp16", "training/contexts", "step/fp16"),
    *("health/gradient_fp16_contiguous", "health/gradient_fp16_channels-last"),
    *("compiled/cuda-graphs_batch_2", "compiled/cuda-graphs_batch_1"),
}
# Nor these, where it gets bf16's convolutions wrong.
BF16 = {"health/conv3d_bf16", "step/bf16", "losses/bf16_seed_0", "losses/bf16_seed_1", "losses/compared"}
BLOCKED = """
import sys
class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {"av", "webdataset", "simplejpeg"} or name == "nvidia.dali":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Missing())
"""
# The work of one row ends the section's process.
CRASHING = """
import os, signal, sys
if "gpu-section" in sys.orig_argv:
    from pclkd.benchmarks.gpu.rows import Rows
    take = Rows.take
    def crash(rows, name, work, **how):
        take(rows, name, work if name != "fp32_seed_0" else lambda: os.kill(os.getpid(), signal.SIGSEGV), **how)
    Rows.take = crash
"""


def rows_of(out: Path) -> dict[str, Row]:
    return read_rows(out / "rows.jsonl")


def test_every_row_is_taken(tmp_path: Path) -> None:
    out, temporary = tmp_path / "out", tmp_path / "tmp"
    temporary.mkdir()
    environment = {**os.environ, "TMPDIR": str(temporary), "OMP_NUM_THREADS": "1"}
    environment.pop("TORCHINDUCTOR_CACHE_DIR", None)  # torch sets it in a process that has compiled
    done = subprocess.run([*COMMAND, out], capture_output=True, text=True, check=False, env=environment)
    rows = rows_of(out)
    assert done.returncode == 0, done.stderr
    assert {row.section for row in rows.values()} == {section.name for section in SECTIONS}
    assert {path for path, row in rows.items() if row.state != "ok"} - BF16 == GPU_ONLY
    assert rows["resume/compared"].values["resumed_apart_pct"] == 0
    for name in ("cpu", "mixed"):  # a dry run decodes on the CPU, whatever is asked for
        assert rows[f"parity/clips_{name}"].values["largest_levels"] == 0
        assert rows[f"parity/repeats_{name}"].values["differing_values"] == 0
    assert 0 < float(str(rows["parity/kernels_float32"].values["rgb_largest_levels"])) < 1.01  # in the interpreter
    assert float(str(rows["loading/kernels_alone"].values["frames_per_s"])) > 0
    assert float(str(rows["parity/operator_hue_cpu"].values["torchvision_mean_levels"])) > 1
    steps = [row.values for path, row in rows.items() if path.startswith("step/eager")]
    assert steps and all(float(str(values["mfu_pct"])) > 0 for values in steps)
    assert rows["training/end_to_end"].values["compile"] == "on"
    assert rows["training/kd"].values["steps"] == 2
    assert "kd_pretext_last" in rows["training/kd"].values
    assert sorted(path.name for path in out.iterdir()) == [
        *("kd-metrics.jsonl", "kernels.txt", "log.txt", "parity-clips.png", "parity-operators.png"),
        *("rows.jsonl", "summary.txt", "trace.json.gz"),
    ]
    assert [path.name.split("-")[1] for path in temporary.iterdir()] == ["compiled"]
    assert (out / "summary.txt").read_text() in done.stdout and "a dry run" in done.stdout


def test_where_dali_and_pyav_are_missing_the_step_is_still_proven(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(BLOCKED)
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}:{os.environ.get('PYTHONPATH', '')}"}
    command = [*COMMAND, tmp_path / "out", "--only", "untuned", "--only", "loading", "--only", "health"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    rows = rows_of(tmp_path / "out")
    assert rows["untuned/cudnn_trials_off"].state == rows["health/matrix_bf16"].state == "ok"
    assert rows["health/environment"].values["has_dali"] == "false"
    for section in ("data", "loading"):
        assert rows[f"{section}/all"].state == "left out" and "is not installed" in rows[f"{section}/all"].error


def test_a_row_that_ends_its_process_has_failed_and_the_rest_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    victim = "losses/fp32_seed_0"
    (tmp_path / "sitecustomize.py").write_text(CRASHING)
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{os.environ.get('PYTHONPATH', '')}")
    done = CliRunner().invoke(main, ["gpu", "--dry-run", "--out", str(tmp_path / "out"), "--only", "losses"])
    assert done.exit_code == 1, done.output
    rows = rows_of(tmp_path / "out")
    assert rows[victim].state == "failed" and "SIGSEGV" in rows[victim].error
    assert rows["losses/fp32_seed_1"].state == "ok"
    assert rows["losses/compared"].state == "left out"  # there is nothing to compare with


@pytest.mark.parametrize(
    ("arguments", "told"),
    [(["--data", "{here}/none"], "none"), (["--only", "lunch"], "lunch"), (["--minutes", "0"], "minutes")],
)
def test_wrong_input_is_told_before_anything_is_measured(arguments: list[str], told: str, tmp_path: Path) -> None:
    done = CliRunner().invoke(
        main, ["gpu", "--out", str(tmp_path / "out"), *(a.format(here=tmp_path) for a in arguments)]
    )
    assert done.exit_code == 2 and told in done.stderr
    assert not (tmp_path / "out").exists()


def test_rows_of_another_run_are_kept(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text("")
    done = CliRunner().invoke(main, ["gpu", "--out", str(tmp_path)])
    assert done.exit_code == 2 and "another run" in done.stderr
