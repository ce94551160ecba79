import time

import click
import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from pclkd.benchmarks.measuring.charts import write_chart
from pclkd.benchmarks.measuring.result import make_result, read_result
from pclkd.benchmarks.measuring.session import Session
from pclkd.benchmarks.options import measuring
from pclkd.sharding.common.errors import InputError


@pytest.mark.parametrize("place", [".", "nothing/r.json"])
def test_a_place_that_cannot_be_written_is_told_before_measuring(tmp_path, place):
    with pytest.raises(InputError, match="cannot write"):
        Session(1, 0, json_file=tmp_path / place)
    with pytest.raises(InputError, match="cannot write"):
        Session(1, 0, chart_file=tmp_path / place)
    Session(1, 0, json_file=tmp_path / "r.json")
    with pytest.raises(InputError, match=r"--json and --chart would both be .*x\.png"):
        Session(1, 0, json_file=tmp_path / "x.png", chart_file=tmp_path / "x.png")


def test_quick_is_short_unless_told_otherwise():
    seen = []

    @click.command()
    @measuring
    def probe(session):
        seen.append((session.rounds, session.min_seconds, session.quick))

    for arguments in ([], ["--quick"], ["--quick", "--rounds", "9"], ["--min-seconds", "0"]):
        assert CliRunner().invoke(probe, arguments, catch_exceptions=False).exit_code == 0
    assert seen == [(6, 1.0, False), (3, 0.2, True), (9, 0.2, True), (6, 0.0, False)]


def test_minutes_bound_a_command_from_its_start():
    seen = []

    @click.command()
    @measuring
    def probe(session):
        before = session.left_s
        time.sleep(0.02)
        seen.append((session.rounds, session.budget_s, before is not None and before - session.left_s >= 0.02))

    for arguments in (["--minutes", "2"], ["--minutes", "0.5", "--rounds", "4"], ["--quick"]):
        assert CliRunner().invoke(probe, arguments, catch_exceptions=False).exit_code == 0
    assert seen == [(20, 120.0, True), (4, 30.0, True), (3, None, False)]
    for wrong in ("--minutes=0", "--minutes=nan", "--min-seconds=nan", "--min-seconds=inf"):
        assert CliRunner().invoke(probe, [wrong]).exit_code == 2


def test_a_budget_that_is_used_up_leaves_three_turns_and_nothing_below_zero(capsys):
    session = Session(9, 0, budget_s=0.0)
    assert session.left_s == 0
    assert list(session.turns()) == [0, 1, 2]
    assert capsys.readouterr().err.splitlines() == ["round 1", "round 2", "round 3"]
    assert len(session.measure({"a": lambda: 1.0}, told)["a"].values) == 3
    assert list(Session(2, 0).turns()) == [0, 1]


def told(rates):
    return make_result("load", "clips/s", rates, "a", {})


def test_who_dies_in_a_round_leaves_those_before_it(tmp_path):
    turns = iter([1.0] * 3)  # a warm-up and two rounds

    def work():
        return next(turns)

    file = tmp_path / "r.json"
    with pytest.raises(StopIteration):
        Session(9, 0, budget_s=60.0, json_file=file).measure({"a": work}, told)
    assert len(read_result(file)["a"].values) == 2


def test_a_finished_session_prints_and_writes(tmp_path, capsys):
    result = make_result("load", "clips/s", {"pclkd": [10.0, 12.0], "other": [5.0, 4.0]}, "pclkd", {"recipe": "plain"})
    Session(2, 0, json_file=tmp_path / "r.json", chart_file=tmp_path / "r.png").finish(result)
    assert "pclkd" in capsys.readouterr().out
    assert sorted(path.name for path in tmp_path.iterdir()) == ["r.json", "r.png"]
    with Image.open(tmp_path / "r.png") as picture:
        blue = (np.asarray(picture.convert("RGB")) == (0x00, 0x72, 0xB2)).all(axis=2)
        grey = (np.asarray(picture.convert("RGB")) == (0xA8, 0xA8, 0xA8)).all(axis=2)
    # The bars are as long as the medians, 11 and 4.5.
    assert blue.any(axis=0).sum() / grey.any(axis=0).sum() == pytest.approx(11 / 4.5, rel=0.05)


def test_limits_are_drawn_pale(tmp_path):
    rates = {"step": [20.0, 20.0], "limit": [60.0, 60.0]}
    result = make_result("step", "samples/s", rates, "step", {}, bounds={"step": ["limit"]})
    write_chart(result, tmp_path / "r.png")
    with Image.open(tmp_path / "r.png") as picture:
        pixels = np.asarray(picture.convert("RGB"))
    blue, pale = ((pixels == colour).all(axis=2) for colour in ((0x00, 0x72, 0xB2), (0xE3, 0xD9, 0xC6)))
    assert pale.any(axis=0).sum() / blue.any(axis=0).sum() == pytest.approx(3, rel=0.05)
