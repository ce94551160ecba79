import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from pclkd.benchmarks.cli import main

SMALL = [
    "--width",
    "0.125",
    "--frames",
    "8",
    "--crop",
    "32",
    "--batch-size",
    "2",
    "--rounds",
    "2",
    "--min-seconds",
    "0",
]


def figures(tmp_path: Path, *more: str) -> dict[str, dict[str, float]]:
    file = tmp_path / "teacher.json"
    done = CliRunner().invoke(main, ["teacher", *SMALL, *more, "--json", str(file)])
    assert done.exit_code == 0, done.output
    content = json.loads(file.read_text())
    found = {result["name"]: result for result in content["results"]}
    extra = found["pcl_kd"]["extra"]
    verdict = "met" if extra["overhead_over_flop_share"] <= 1.1 else "missed"
    assert f"{extra['overhead_pct']:.1f} % longer and computes {extra['flop_share_pct']:.1f} % more" in done.output
    assert content["notes"][0].endswith(verdict)
    return found


def tflop(found: dict[str, dict[str, float]]) -> dict[str, float]:
    """Of each case that is counted."""
    extra = {name: result["extra"] or {} for name, result in found.items()}
    return {name: more["tflop_per_step"] for name, more in extra.items() if "tflop_per_step" in more}


@pytest.mark.parametrize("teacher", ["r3d", "c3d"])
def test_the_teacher_adds_the_arithmetic_of_its_forward_pass(teacher: str, tmp_path: Path) -> None:
    found = figures(tmp_path, "--teacher", teacher)
    work = tflop(found)
    # What the KL terms and the banks add is next to nothing.
    assert work["pcl_kd"] - work["pcl"] == pytest.approx(work["teacher_forward"], rel=0.02)
    extra = found["pcl_kd"]["extra"]
    assert extra["flop_share_pct"] == pytest.approx(100 * work["teacher_forward"] / work["pcl"], rel=0.02)
    ratios = [a / b for a, b in zip(found["pcl"]["values"], found["pcl_kd"]["values"], strict=True)]
    assert extra["overhead_pct"] == pytest.approx(100 * (sum(ratios) / 2 - 1), rel=1e-6)
    # The same, said as a bound: the steps without it, slowed down by its share.
    assert found["pcl_kd"]["bound"] == "by_flop_share"
    assert found["pcl_kd"]["of_bound_pct"] == pytest.approx(
        sum(100 * (1 + extra["flop_share_pct"] / 100) / ratio for ratio in ratios) / 2, rel=1e-3
    )
    for name in ("pcl", "teacher_forward"):
        assert found[name]["bound"].startswith("matrix_limit")
    live, read = found["features"]["values"], found["features_cached"]["values"]
    shorter = sum(100 * (1 - a / b) for a, b in zip(live, read, strict=True)) / 2
    assert found["features_cached"]["extra"]["shorter_pct"] == pytest.approx(shorter, rel=1e-6)
    assert extra["overhead_over_flop_share"] == pytest.approx(extra["overhead_pct"] / extra["flop_share_pct"])


def test_a_forward_pass_is_a_third_of_a_step(tmp_path: Path) -> None:
    found = figures(tmp_path)
    work = tflop(found)
    # Backward is a pass for the inputs and one for the weights; the first layer needs none for its inputs.
    assert 0.3 < work["teacher_forward"] / work["pcl"] < 0.4


def test_an_unknown_teacher_is_told_in_a_line() -> None:
    done = CliRunner().invoke(main, ["teacher", *SMALL, "--teacher", "r4d"])
    assert done.exit_code == 2 and "did you mean" in done.output
