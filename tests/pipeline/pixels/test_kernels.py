"""The kernels in Triton's interpreter against their definitions and the steps on a CPU; a GPU's compiler takes them."""

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from pclkd.pipeline.pixels import kernel_check
from pclkd.pipeline.pixels.kernel_check import kernels_fault

pytest.importorskip("triton")
SCRIPT = Path(__file__).with_name("interpreted.py")
ROUNDED_OTHERWISE = 0.005  # share of values whose level lies so near a half that float32 and float64 part


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    file = tmp_path_factory.mktemp("kernels") / "found.json"
    subprocess.run([sys.executable, SCRIPT, file], check=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    told: dict[str, Any] = json.loads(file.read_text())
    return told


def right(case: str, clips: list[dict[str, float]]) -> bool:
    """Off by rounding alone: a level where a colour lies at a half, two where such ones are subtracted."""
    most = 2.01 if "residual" in case else 1.01
    values = sum(clip["off"] for clip in clips) / len(clips)
    return values <= ROUNDED_OTHERWISE and all(clip["largest"] <= most and clip["from_fused"] <= most for clip in clips)


@pytest.mark.parametrize("form", ["rgb", "residual"])
@pytest.mark.parametrize("name", ["operators", "vcp", "order", "rotation", "rotation of the middle", "speed", "own"])
def test_kernels_do_what_is_defined_and_what_a_cpu_does(name: str, form: str, found: dict[str, Any]) -> None:
    clips = found["cases"][f"{name}, {form}, float32"]
    assert len(clips) == {"operators": 10, "vcp": 12, "order": 18, "rotation": 8, "rotation of the middle": 4}.get(
        name, 2
    )
    wrong = {number: clip for number, clip in enumerate(clips) if not right(form, [clip | {"off": 0}])}
    assert not wrong and right(form, clips)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("form", ["rgb", "residual"])
@pytest.mark.parametrize("name", ["rotation of the middle", "own"])
def test_short_types_hold_what_they_can(name: str, form: str, dtype: str, found: dict[str, Any]) -> None:
    assert right(form, found["cases"][f"{name}, {form}, {dtype}"])


def test_the_check_at_the_start_finds_them_right(found: dict[str, Any]) -> None:
    assert found["fault"] == ""
    assert 0 < found["apart"]["rgb_mean"] < 0.25 and found["apart"]["residual_largest"] < 1.01


def test_a_decoder_delivers_what_it_does_with_dalis_operators(found: dict[str, Any]) -> None:
    """The same windows, resized by the same filter; colours round otherwise here and there."""
    assert found["decoded"]["largest"] < 2.01 and found["decoded"]["mean"] < 0.2


def test_the_check_at_the_start_finds_them_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    kernels_fault.cache_clear()
    monkeypatch.setattr(kernel_check, "kernels_apart", lambda device: {"rgb_mean": 0.1, "rgb_largest": 2.5})
    assert kernels_fault(torch.device("cpu")) == "they are off: rgb_largest 2.50 levels"
    kernels_fault.cache_clear()
    monkeypatch.undo()
    assert kernels_fault(torch.device("cpu")).startswith("they fail: ")  # without an interpreter, and no GPU
    kernels_fault.cache_clear()


@pytest.mark.parametrize(("gpu", "out", "residual"), [(80, "*fp32", True), (90, "*bf16", False)])
def test_a_gpus_compiler_takes_them(
    gpu: int, out: str, residual: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To machine code, without a GPU."""
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    triton, source = importlib.import_module("triton"), importlib.import_module("triton.compiler").ASTSource
    target = importlib.import_module("triton.backends.compiler").GPUTarget("cuda", gpu, 32)
    programs = importlib.import_module("pclkd.pipeline.pixels.programs")
    types = {"frames": "*u8", "maps": "*fp32", "table": "*i32", "blurs": "*i32", "taps": "*fp32", "across": "*fp32"}
    types |= {"out": out, "residual": "constexpr", "block": "constexpr"}
    types |= dict.fromkeys(("length", "height", "width", "row"), "i32")
    types |= {f"{colour}_{what}": "fp32" for colour in "rgb" for what in ("scale", "zero")}
    for program in (programs.blur_across, programs.finish_clips):
        constants = {"block": 512} | ({"residual": residual} if "residual" in program.arg_names else {})
        kind = {name: types[name] for name in program.arg_names}
        made = triton.compile(source(program, kind, constants), target=target)
        assert made.asm["cubin"] and f".target sm_{gpu}" in made.asm["ptx"]
