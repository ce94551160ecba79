import json

import pytest
from pydantic import ValidationError

from pclkd.benchmarks.result import BenchmarkResult, check_writable, make_result, show_result, write_result
from pclkd.sharding.errors import InputError


@pytest.fixture(scope="module")
def result():
    rates = {"ours": [100.0, 300.0, 200.0], "theirs": [50.0, 100.0, 50.0]}
    extra = {"ours": {"memory/peak_gib": 1.5}}
    return make_result("load", "clips/s", rates, "theirs", {"batch_size": 4}, extra=extra, notes=["a note"])


def test_json_reads_back_as_it_was(result, tmp_path):
    write_result(result, tmp_path / "r.json")
    assert list(tmp_path.iterdir()) == [tmp_path / "r.json"]
    content = json.loads((tmp_path / "r.json").read_text())
    assert content["format_version"] == 1
    assert content["cases"]["ours"] == {
        "rates": [100.0, 300.0, 200.0],
        "median": 200.0,
        "low": 100.0,
        "high": 300.0,
        "spread_pct": 50.0,
        "ratio": 3.0,
        "extra": {"memory/peak_gib": 1.5},
    }
    assert content["cases"]["theirs"]["ratio"] == 1.0
    assert content["environment"]["torch"]
    assert content["environment"]["cores"] >= 1
    assert BenchmarkResult.model_validate_json((tmp_path / "r.json").read_text()) == result


def test_an_incomplete_file_is_refused(result):
    content = json.loads(result.model_dump_json())
    del content["environment"]
    with pytest.raises(ValidationError, match="environment"):
        BenchmarkResult.model_validate(content)


def test_the_table_shows_figures_ratios_settings_and_notes(result):
    lines = show_result(result).splitlines()
    assert lines[1] == "batch_size 4"
    assert any(line.split() == ["ours", "200", "100", "300", "50", "%", "3.00"] for line in lines)
    assert any(line.split() == ["theirs", "50", "50", "100", "50", "%", "1.00"] for line in lines)
    assert any(line.split() == ["ours", "1.5"] for line in lines)
    assert lines[-1] == "- a note"


@pytest.mark.parametrize("place", [".", "nothing/r.json"])
def test_a_place_that_cannot_be_written_is_told_before_measuring(tmp_path, place):
    with pytest.raises(InputError, match="cannot write"):
        check_writable(tmp_path / place)
    check_writable(tmp_path / "r.json")
    check_writable(None)
