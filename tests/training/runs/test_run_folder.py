import json
import math

import pytest

from pclkd.sharding.common.errors import InputError
from pclkd.training.runs.run_folder import append_line, find_runs, read_run


def make_run(path, lines=(), settings=None):
    path.mkdir(parents=True)
    (path / "settings.json").write_text(json.dumps(settings or {"backbone": {"name": "r3d", "width": 1.0}}))
    for line in lines:
        append_line(path / "metrics.jsonl", line)
    return path


def line(kind, epoch, step, **values):
    return {"kind": kind, "epoch": epoch, "step": step, **values}


def test_reads_back_what_was_appended(tmp_path):
    lines = [line("step", 0, 3, loss=1.5), line("step", 0, 1, loss=2.5), line("epoch", 1, 3, **{"train/loss": 2.0})]
    run = read_run(make_run(tmp_path / "a", lines))
    assert run.name == "a"
    assert [entry["loss"] for entry in run.steps] == [2.5, 1.5]  # ascending
    assert run.epochs == [lines[2]]
    assert run.environment == {}
    assert run.evals == {}


def test_the_last_of_repeated_lines_wins(tmp_path):
    lines = [line("step", 0, 1, loss=1.0), line("epoch", 1, 1, x=1.0), line("step", 0, 1, loss=9.0)]
    run = read_run(make_run(tmp_path / "a", [*lines, line("epoch", 1, 1, x=5.0)]))
    assert [entry["loss"] for entry in run.steps] == [9.0]
    assert [entry["x"] for entry in run.epochs] == [5.0]


@pytest.mark.parametrize("cut", range(1, 40))
def test_a_line_cut_anywhere_costs_itself_alone_even_after_a_resume(tmp_path, cut):
    path = make_run(tmp_path / "a", [line("step", 0, 1, loss=1.0)])
    metrics = path / "metrics.jsonl"
    whole = metrics.read_bytes()
    metrics.write_bytes(whole + json.dumps(line("step", 0, 2, loss=2.0)).encode()[:cut])
    assert [entry["step"] for entry in read_run(path).steps] == [1]
    append_line(metrics, line("step", 0, 3, loss=3.0))
    assert [entry["step"] for entry in read_run(path).steps] == [1, 3]


def test_numbers_that_are_not_finite_stay_valid_json(tmp_path):
    append_line(tmp_path / "m.jsonl", line("step", 0, 1, loss=math.nan, lr=math.inf, pretext=0.5))

    def refuse(constant):
        raise AssertionError(constant)

    record = json.loads((tmp_path / "m.jsonl").read_text(), parse_constant=refuse)
    assert record == line("step", 0, 1, loss=None, lr=None, pretext=0.5)


def test_evaluations_and_environment(tmp_path):
    path = make_run(tmp_path / "a")
    (path / "env.json").write_text('{"cpu": "x"}')
    (path / "eval-linear.json").write_text('{"linear_top1_pct": 40.0}')
    (path / "eval-retrieval.json").write_text('{"retrieval_r1_pct": 30.0}')
    run = read_run(path)
    assert run.environment == {"cpu": "x"}
    assert run.evals == {"linear": {"linear_top1_pct": 40.0}, "retrieval": {"retrieval_r1_pct": 30.0}}
    assert run.epochs == []
    assert run.steps == []


def test_finds_the_runs_of_a_folder_or_the_run_itself(tmp_path):
    for name in ("b", "a"):
        make_run(tmp_path / "runs" / name)
    (tmp_path / "runs" / "shards").mkdir()
    make_run(tmp_path / "runs" / "deeper" / "c")
    assert [run.name for run in find_runs(tmp_path / "runs")] == ["a", "b"]
    assert [run.name for run in find_runs(tmp_path / "runs" / "b")] == ["b"]


def test_wrong_folders_are_told(tmp_path):
    with pytest.raises(InputError, match="no folder"):
        find_runs(tmp_path / "nothing")
    with pytest.raises(InputError, match=r"holds no run.*settings\.json"):
        find_runs(tmp_path)
    with pytest.raises(InputError, match="not a run folder"):
        read_run(tmp_path)


@pytest.mark.parametrize("content", ["{", "[1]", "\udcff"])
def test_a_damaged_file_is_named(tmp_path, content):
    path = make_run(tmp_path / "a")
    (path / "eval-linear.json").write_bytes(content.encode(errors="surrogateescape"))
    with pytest.raises(InputError, match=r"eval-linear\.json"):
        read_run(path)
