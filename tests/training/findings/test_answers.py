import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pclkd.sharding.common.errors import InputError
from pclkd.training.evaluation.accuracy import accuracy
from pclkd.training.findings.records import read_study
from pclkd.training.runs.answers import append_answers, as_marks, read_answers

KEY = "val/linear_top1_pct"


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 3)), max_size=30))
def test_marks_keep_how_often_each_video_was_asked_and_told_right(tmp_path_factory, given_answers):
    run = tmp_path_factory.mktemp("run")
    hits, videos = [hit for hit, _ in given_answers], [video for _, video in given_answers]
    marks = as_marks(hits, videos, 5)
    assert len(marks) == max((videos.count(video) for video in videos), default=0)
    append_answers(run, 4, 48, {KEY: marks} if marks else {})
    for right, asked, video in zip(*read_answers(run)[4].get(KEY, ([], [])), range(5), strict=bool(marks)):
        assert asked == videos.count(video)
        assert right == sum(hit for hit, about in given_answers if about == video)


def test_the_marks_of_a_video_stand_below_each_other():
    assert as_marks([True, False, True, True], [1, 2, 2, 0], 3) == ["110", "..1"]


def test_of_an_epoch_done_twice_the_later_answers_count_and_half_a_line_none(tmp_path):
    append_answers(tmp_path, 2, 8, {KEY: ["01"]})
    append_answers(tmp_path, 2, 8, {KEY: ["11"]})
    with (tmp_path / "answers.jsonl").open("a") as file:
        file.write('{"epoch": 4, "st')
    append_answers(tmp_path, 6, 24, {KEY: ["1."]})
    found = read_answers(tmp_path)
    assert {epoch: answers[KEY].right.tolist() for epoch, answers in found.items()} == {2: [1, 1], 6: [1, 0]}
    assert found[6][KEY].asked.tolist() == [1, 0]
    assert read_answers(tmp_path / "nowhere") == {}


@pytest.mark.parametrize("marks", ["01", [], [1], ["01", "1"], ["2"], ["١"], None, {"0": "1"}])
def test_what_no_run_writes_is_refused_at_its_line(tmp_path: Path, marks):
    (tmp_path / "answers.jsonl").write_text("\n" + json.dumps({"epoch": 1, "step": 2, KEY: marks}) + "\n")
    with pytest.raises(InputError, match=r"answers\.jsonl:2"):
        read_answers(tmp_path)


@pytest.mark.parametrize("line", ["[]", "7", '{"epoch": true}', "{}", '{"epoch": "1"}'])
def test_a_line_without_an_epoch_is_refused(tmp_path: Path, line):
    (tmp_path / "answers.jsonl").write_text(line)
    with pytest.raises(InputError, match=r"answers\.jsonl:1"):
        read_answers(tmp_path)


def test_draws_of_test_videos_spread_as_the_standard_error_says(tmp_path, write_study):
    folder = write_study(tmp_path / "study", backbones=("r3d",), repetitions=1, epochs=4)
    random = np.random.default_rng(0)
    hits = torch.from_numpy(random.random((3, 90)) < random.random(90))  # asked three times; some are harder
    videos = torch.arange(90).repeat(3, 1)
    kept = torch.from_numpy(random.random((3, 90)) < 0.9)
    error = accuracy("x", hits[kept], videos[kept])["x_pct_se"]
    marks = as_marks(hits[kept].tolist(), videos[kept].tolist(), 90)
    for epoch in range(5):
        append_answers(folder / "baseline-r3d-s0", epoch, 9 * epoch, {KEY: marks})
    study = read_study(folder)
    rows = study.curve(study.runs[0], KEY).values[1:]
    assert len(rows) == 401 and (rows == rows[:, :1]).all()  # each epoch asks the same videos
    assert rows[:, 0].mean() == pytest.approx(100 * hits[kept].float().mean().item(), abs=4 * error / 20)
    assert rows[:, 0].std() == pytest.approx(error, rel=0.15)  # of 401 draws: 3.5 %


def test_what_is_hard_for_both_is_no_part_of_a_difference(tmp_path, write_study):
    folder = write_study(tmp_path / "study", backbones=("r3d",), repetitions=1, epochs=4)
    random = np.random.default_rng(1)
    hits = random.random(128) < 0.5
    better = hits | (random.random(128) < 0.1)
    for name, told in (("baseline-r3d-s0", hits), ("control-r3d-s100", better)):
        for epoch in range(5):
            append_answers(folder / name, epoch, 9 * epoch, {KEY: ["".join("01"[int(hit)] for hit in told)]})
    study = read_study(folder)
    runs = {run.name: study.curve(run, KEY).values[1:, -1] for run in study.runs if run.kind != "student"}
    paired = (runs["control-r3d-s100"] - runs["baseline-r3d-s0"]).std()
    alone = accuracy("x", torch.from_numpy(better ^ hits))["x_pct_se"]  # the only videos that tell them apart
    assert paired == pytest.approx(alone, rel=0.15)
    assert paired < 0.6 * np.hypot(runs["control-r3d-s100"].std(), runs["baseline-r3d-s0"].std())


def test_a_run_that_kept_no_answers_has_no_draws(tmp_path, write_study):
    folder = write_study(tmp_path / "study", backbones=("r3d",), repetitions=1, epochs=4, videos=20)
    kept = (folder / "baseline-r3d-s0" / "answers.jsonl").read_text().splitlines()
    (folder / "baseline-r3d-s0" / "answers.jsonl").write_text("\n".join(kept[:-1]))  # one evaluation is missing
    study = read_study(folder)
    assert {run.name: len(study.curve(run, KEY).values) for run in study.runs} == {
        "baseline-r3d-s0": 1, "r3d-from-r3d-s100": 402, "control-r3d-s100": 402,
    }  # fmt: skip
