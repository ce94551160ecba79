from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from pclkd.benchmarks.cli import main
from pclkd.benchmarks.measuring.result import make_result, write_result

STEADY = [100.0, 101, 99, 100, 100, 101, 99, 100]


def saved(
    path: Path, values: dict[str, list[float]], *, unit: str = "clips/s", benchmark: str = "load", **settings: object
) -> Path:
    write_result(make_result(benchmark, unit, values, next(iter(values)), settings), path)
    return path


def compare(*paths: Path) -> Result:
    return CliRunner().invoke(main, ["compare", *map(str, paths)])


@pytest.mark.parametrize(
    ("factor", "unit", "verdict", "code"),
    [
        (1.2, "clips/s", "faster", 0),
        (0.8, "clips/s", "slower", 1),
        (1.005, "clips/s", "within noise", 0),
        (1.2, "s", "slower", 1),
        (0.8, "MiB", "faster", 0),
    ],
)
def test_changes_beyond_the_intervals_are_flagged(
    factor: float, unit: str, verdict: str, code: int, tmp_path: Path
) -> None:
    before = saved(tmp_path / "a.json", {"ours": STEADY}, unit=unit)
    after = saved(tmp_path / "b.json", {"ours": [factor * value for value in STEADY]}, unit=unit)
    done = compare(before, after)
    assert done.exit_code == code, done.output
    line = next(line for line in done.output.splitlines() if line.startswith("ours"))
    assert line.endswith(verdict)
    good = 1 / factor if unit in {"s", "MiB"} else factor
    assert f"{good:.3g}" in line.split()


def test_wide_intervals_hide_a_change_of_the_median(tmp_path: Path) -> None:
    before = saved(tmp_path / "a.json", {"ours": [50.0, 150, 60, 140, 70, 130, 90, 110]})
    after = saved(tmp_path / "b.json", {"ours": [70.0, 170, 80, 160, 90, 150, 110, 130]})
    assert "within noise" in compare(before, after).output


def test_cases_of_one_result_alone_are_left_out_and_differing_settings_told(tmp_path: Path) -> None:
    before = saved(tmp_path / "a.json", {"ours": STEADY, "old": STEADY}, batch_size=8)
    after = saved(tmp_path / "b.json", {"new": STEADY, "ours": STEADY}, batch_size=16)
    text = compare(before, after).output
    assert "- batch_size: 8 -> 16" in text
    assert not any(line.startswith(("old", "new")) for line in text.splitlines())


def test_what_cannot_be_compared_is_told_in_a_line(tmp_path: Path) -> None:
    load = saved(tmp_path / "a.json", {"ours": STEADY})
    step = saved(tmp_path / "b.json", {"ours": STEADY}, benchmark="step")
    other = saved(tmp_path / "c.json", {"theirs": STEADY})
    (tmp_path / "d.json").write_text('{"format_version": 1}')
    for second, told in (
        (step, "a result of load and one of step"),
        (other, "no case in common"),
        (tmp_path / "d.json", "no benchmark result of this version"),
        (tmp_path / "none.json", "cannot read"),
    ):
        done = compare(load, second)
        assert done.exit_code == 2 and told in done.output
        assert len(done.output.strip().splitlines()) == 1
