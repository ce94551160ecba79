"""A finding is on the disk as soon as it is known, and a failure is a finding."""

import math
import time
from pathlib import Path

import pytest

from pclkd.benchmarks.gpu.bench import TINY, Bench
from pclkd.benchmarks.gpu.rows import LeftOutError, Row, Rows, add_row, read_rows
from pclkd.benchmarks.gpu.steps import losses
from pclkd.benchmarks.gpu.summary import show_rows
from pclkd.sharding.common.errors import InputError

LATER = float("inf")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "rows.jsonl"


def refusing(error: Exception) -> dict[str, float]:
    raise error


def test_a_row_is_begun_before_its_work_and_known_right_after_it(file: Path) -> None:
    rows, seen = Rows(file, "step", LATER, gpu=False), []

    def work() -> dict[str, float]:
        seen.append(read_rows(file)["step/a"].state)
        return {"samples_per_s": 3.0}

    rows.take("a", work)
    assert seen == ["begun"]
    assert read_rows(file)["step/a"].state == "ok"
    assert rows.found("step/a") == {"samples_per_s": 3.0}
    assert rows.number("step/a", "samples_per_s") == 3 and rows.number("step/b", "samples_per_s") is None


def test_what_fails_is_a_row_with_its_error_and_the_next_one_is_taken(file: Path) -> None:
    rows = Rows(file, "step", LATER, gpu=False)
    rows.take("crashing", lambda: {"x": 1 / 0})
    rows.take("refused", lambda: refusing(InputError("conv3d is off", remedy="use fp32")))
    rows.take("on_a_gpu", lambda: refusing(InputError("no GPU", remedy="buy one")), needs_gpu=True)
    rows.take("without_dali", lambda: refusing(ModuleNotFoundError("x", name="nvidia.dali")))
    rows.take("misspelt", lambda: refusing(ModuleNotFoundError("x", name="pclkd.pipelines")))
    rows.take("left", lambda: refusing(LeftOutError("there are no shards")))
    rows.take("fine", lambda: {"x": 1.0})
    found = read_rows(file)
    assert {row.name: row.state for row in found.values()} == {
        **{"crashing": "failed", "refused": "failed", "on_a_gpu": "left out", "without_dali": "left out"},
        **{"misspelt": "failed", "left": "left out", "fine": "ok"},
    }
    assert found["step/crashing"].error.startswith("ZeroDivisionError: ")
    assert found["step/without_dali"].error == "nvidia.dali is not installed"
    assert rows.found("step/crashing") == {}


def test_with_a_gpu_what_refuses_to_use_it_has_failed(file: Path) -> None:
    Rows(file, "step", LATER, gpu=True).take("fp16", lambda: refusing(InputError("no", remedy="no")), needs_gpu=True)
    assert read_rows(file)["step/fp16"].state == "failed"


def test_what_is_known_is_not_taken_again(file: Path) -> None:
    """So a section whose process crashed goes on behind the row that it crashed in."""
    add_row(file, Row(section="step", name="a", state="failed", error="ended by SIGSEGV"))
    Rows(file, "step", LATER, gpu=False).take("a", lambda: {"x": 1.0})
    Rows(file, "loading", LATER, gpu=False).take("a", lambda: {"x": 2.0})
    assert read_rows(file)["step/a"].error == "ended by SIGSEGV"
    assert read_rows(file)["loading/a"].values == {"x": 2.0}


def test_when_the_time_is_up_rows_are_left_out(file: Path) -> None:
    Rows(file, "step", time.monotonic() - 1, gpu=False).take("a", lambda: {"x": 1.0})
    assert read_rows(file)["step/a"].error == "no time was left"


def test_a_line_that_was_cut_off_hides_no_other(file: Path) -> None:
    add_row(file, Row(section="step", name="a", state="ok", values={"curve": [1.0, math.inf], "worst": math.nan}))
    with file.open("a") as out:
        out.write('{"section":"step","na')
    assert list(read_rows(file)) == ["step/a"]
    assert read_rows(file)["step/a"].values == {"curve": [1.0, math.inf], "worst": "NaN"}


def test_precisions_are_compared_with_what_seeds_do(file: Path, tmp_path: Path) -> None:
    ends = {"fp32_seed_0": 2.0, "bf16_seed_0": 2.02, "fp32_seed_1": 2.5, "bf16_seed_1": 2.4}
    for name, end in ends.items():
        add_row(file, Row(section="losses", name=name, state="ok", values={"loss": [9.0, 9.0, 9.0, end]}))
    losses(Bench(Rows(file, "losses", LATER, gpu=False), TINY, tmp_path, tmp_path))
    assert read_rows(file)["losses/compared"].values == pytest.approx(
        {"last_quarter": 2, "bf16_apart_seed_0_pct": 1, "bf16_apart_seed_1_pct": 4, "seeds_apart_pct": 25}
    )


def test_an_aim_is_met_missed_or_not_measured() -> None:
    def row(path: str, **values: float) -> tuple[str, Row]:
        section, _, name = path.partition("/")
        return path, Row(section=section, name=name, state="ok", values=dict(values))

    rows = dict(
        [
            row("loading/full_mixed_16_threads", frames_per_s=50_000.0),
            row("loading/full_cpu_16_threads", frames_per_s=20_000.0),
            row("step/eager", samples_per_s=300.0, mfu_pct=15.0),
            row("compiled/on_batch_64", samples_per_s=590.0, mfu_pct=34.0),
            row("step/eager_without_teacher", samples_per_s=900.0, mfu_pct=50.0),
        ]
    )
    lines = {line.split("  ")[0]: line.split() for line in show_rows(rows, dry=False).splitlines() if "=" in line}
    assert lines["loader, frames/s, all augmentation"][-2:] == ["5e+04", "met"]
    assert lines["step PCL+KD, samples/s"][-2:] == ["590", "missed"]
    assert lines["step PCL+KD, % of the measured matrix rate"][-2:] == ["34", "met"]
    assert lines["data wait, %"][-2:] == ["not", "measured"]
