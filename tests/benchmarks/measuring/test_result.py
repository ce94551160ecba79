import json
from pathlib import Path
from statistics import median

import pytest
from pydantic import ValidationError

from pclkd.benchmarks.measuring.result import BenchmarkResult, make_result, show_result, write_result


@pytest.fixture(scope="module")
def result():
    rates = {"ours": [100.0, 300.0, 200.0], "theirs": [50.0, 100.0, 50.0]}
    about = {"extra": {"ours": {"memory/peak_gib": 1.5}}, "missing": {"nobody": "not installed"}, "notes": ["a note"]}
    return make_result("load", "clips/s", rates, "theirs", {"batch_size": 4}, **about)


def test_json_reads_back_as_it_was(result, tmp_path):
    write_result(result, tmp_path / "r.json")
    assert list(tmp_path.iterdir()) == [tmp_path / "r.json"]
    content = json.loads((tmp_path / "r.json").read_text())
    assert content["format_version"] == 2
    assert content["results"][0] == {
        "name": "ours",
        "unit": "clips/s",
        "median": 200.0,
        "low": 100.0,
        "high": 300.0,
        "confidence_pct": 75.0,  # 3 values lie on one side of the median in 2 of 8 cases
        "rounds": 3,
        "spread_pct": 50.0,
        "ratio": 3.0,
        "ratio_low": 2.0,
        "ratio_high": 4.0,
        "values": [100.0, 300.0, 200.0],
        "bound": None,
        "of_bound_pct": None,
        "extra": {"memory/peak_gib": 1.5},
    }
    assert content["results"][1]["ratio"] == 1.0
    assert content["env"]["torch"]
    assert content["env"]["cores"] >= 1
    read = BenchmarkResult.model_validate_json((tmp_path / "r.json").read_text())
    assert read == result
    assert read["theirs"].median == 50.0
    with pytest.raises(KeyError):
        read["nobody"]


def test_an_incomplete_file_is_refused(result):
    content = json.loads(result.model_dump_json())
    del content["env"]
    with pytest.raises(ValidationError, match="env"):
        BenchmarkResult.model_validate(content)


def test_the_table_shows_figures_ratios_settings_missing_and_notes(result):
    lines = show_result(result).splitlines()
    assert lines[1] == "batch_size 4"
    assert "75 % interval" in lines[2]
    assert any(line.split() == ["ours", "200", "100", "300", "50", "%", "3"] for line in lines)
    assert any(line.split() == ["theirs", "50", "50", "100", "50", "%", "1"] for line in lines)
    assert any(line.split() == ["ours", "1.5"] for line in lines)
    assert "theirs" not in [line.strip() for line in lines]  # no line for a case without further figures
    assert lines[-2:] == ["- missing: nobody (not installed)", "- a note"]


def test_each_case_may_have_a_unit_of_its_own():
    result = make_result("scale", {"a": "s", "b": "MiB"}, {"a": [1.0], "b": [2.0]}, "a", {})
    lines = show_result(result).splitlines()
    assert any(line.split()[:3] == ["a", "s", "1"] for line in lines)
    assert any(line.split()[:3] == ["b", "MiB", "2"] for line in lines)


def test_the_table_shows_each_case_beside_its_nearest_bound():
    rates = {"ours": [10.0, 30.0, 20.0], "reads": [100.0, 90.0, 95.0], "decode": [40.0, 50.0, 50.0]}
    result = make_result("load", "clips/s", rates, "ours", {}, bounds={"ours": ["reads", "decode"]})
    # Round by round 25, 60 and 40 percent; the medians' own quotient would be the same here, the other bound's not.
    assert (result["ours"].bound, result["ours"].of_bound_pct) == ("decode", pytest.approx(40))
    assert (result["decode"].bound, result["decode"].of_bound_pct) == (None, None)
    assert result.bounding == ["reads", "decode"]
    head, ours, reads, decode = show_result(result).splitlines()[4:8]
    assert head.endswith("of bound   bound")
    assert ours.split()[-3:] == ["40.0", "%", "decode"]
    assert (len(reads.split()), len(decode.split())) == (7, 7)


def test_bounds_are_cases_of_the_same_unit():
    for bounds, units in (({"a": ["c"]}, "s"), ({"c": ["a"]}, "s"), ({"a": ["b"]}, {"a": "s", "b": "MiB"})):
        with pytest.raises(ValueError, match=r"none of a, b|is in s, its bound b in MiB"):
            make_result("scale", units, {"a": [1.0], "b": [2.0]}, "a", {}, bounds=bounds)


def test_a_result_without_bounds_is_read_as_before(result):
    """Files that were written before there were any."""
    content = json.loads(result.model_dump_json())
    del content["bounding"]
    for figure in content["results"]:
        del figure["bound"], figure["of_bound_pct"]
    assert BenchmarkResult.model_validate(content) == result


RESULTS = sorted((Path(__file__).parents[3] / "benchmarks" / "results").glob("*.json"))


@pytest.mark.parametrize("path", RESULTS, ids=lambda path: path.stem)
def test_committed_results_are_whole_and_named_for_hardware_and_date(path):
    result = BenchmarkResult.model_validate_json(path.read_text())
    assert path.stem.startswith(result.benchmark)
    assert path.stem.endswith(str(result.env["date_utc"])[:10])
    for figure in result.results:
        assert figure.median == pytest.approx(median(figure.values))
        assert figure.rounds == len(figure.values)
