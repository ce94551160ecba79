import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.figure import Figure

from pclkd.training.report.chart_style import choose_looks, spread
from pclkd.training.report.charts import draw_accuracy, loss_points, loss_terms
from pclkd.training.report.comparison import METRICS, Standing
from pclkd.training.runs.run_folder import RunRecord

POSITIONS = st.lists(st.floats(0, 100), min_size=1, max_size=8)


def record(path, steps=(), epochs=()):
    return RunRecord(path, {}, {}, list(epochs), list(steps), {})


@given(POSITIONS, st.floats(0, 12))
def test_labels_keep_apart_in_order_and_inside(wanted, gap):
    placed = spread(wanted, gap, 0, 100)
    assert all(-1e-9 <= place <= 100 + 1e-9 for place in placed)
    by_wanted = [place for _, place in sorted(zip(wanted, placed, strict=True), key=lambda pair: pair[0])]
    assert all(b - a >= gap - 1e-9 for a, b in itertools.pairwise(by_wanted)) or len(set(wanted)) < len(wanted)
    ordered = sorted(placed)
    assert all(b - a >= gap - 1e-9 for a, b in itertools.pairwise(ordered))


@given(POSITIONS)
def test_labels_that_do_not_collide_stay(wanted):
    gaps = [b - a for a, b in itertools.pairwise(sorted(wanted))]
    assert spread(wanted, min([*gaps, 5]), 0, 100) == pytest.approx(wanted)


@given(st.lists(st.integers(0, 9), min_size=2, max_size=3))
def test_labels_move_as_little_as_they_can(wanted):
    """Against all placements on a grid of quarters."""
    gap, grid = 2.0, np.arange(0, 9.01, 0.25)
    best = min(
        sum((place - want) ** 2 for place, want in zip(places, wanted, strict=True))
        for places in itertools.product(grid, repeat=len(wanted))
        if all(abs(a - b) >= gap for a, b in itertools.combinations(places, 2))
    )
    placed = spread(wanted, gap, 0, 9)
    assert sum((p - w) ** 2 for p, w in zip(placed, wanted, strict=True)) <= best + 1e-9


def test_more_labels_than_room_share_it():
    assert spread([5, 5, 5], 10, 0, 10) == pytest.approx([0, 5, 10])


def test_steps_spread_over_their_epoch(tmp_path):
    steps = [{"epoch": e, "step": 4 * e + s, "pretext": float(4 * e + s)} for e in (0, 1) for s in (1, 2, 3, 4)]
    epochs, values = loss_points(record(tmp_path, steps[:6]), "pretext")  # the second epoch goes on
    assert epochs.tolist() == [0.25, 0.5, 0.75, 1.0, 1.25, 1.5]
    assert values.tolist() == [1, 2, 3, 4, 5, 6]


def test_epoch_means_stand_in_for_steps_that_were_not_logged(tmp_path):
    lines = [{"epoch": 0}, {"epoch": 1, "train/pretext": 1.5}, {"epoch": 2, "train/pretext": None}]
    epochs, values = loss_points(record(tmp_path, epochs=lines), "pretext")
    assert (epochs.tolist(), values.tolist()) == ([1], [1.5])
    assert len(loss_points(record(tmp_path), "pretext")[0]) == 0


def standing(path, role, run=None):
    return Standing(run or record(path), role, None, None, 0, {}, {}, None, {}, {})


def test_teachers_are_dashed_grey_students_solid_and_coloured(tmp_path):
    roles = ["teacher", "student", "student", "alone"]
    teacher, first, second, alone = choose_looks([standing(tmp_path / str(i), r) for i, r in enumerate(roles)])
    red, green, blue = teacher.colour[1:3], teacher.colour[3:5], teacher.colour[5:7]
    assert red == green == blue
    assert first.line["linestyle"] == second.line["linestyle"] == "-"
    assert len({look.line["linestyle"] for look in (teacher, first, alone)}) == 3
    assert len({look.colour for look in (teacher, first, second, alone)}) == 4


def test_the_losses_are_those_that_any_run_has_as_its_folder_tells_them(tmp_path):
    told = {"terms": {"own": {"title": "My own", "unit": "metres"}, "never": {"title": "No figures", "unit": "nats"}}}
    new = RunRecord(tmp_path / "new", told, {}, [], [{"epoch": 0, "step": 1, "own": 1.0, "pretext": 2.0}], {})
    old = record(tmp_path / "old", epochs=[{"epoch": 1, "train/kd_feature": 0.5, "train/kd_relation": 3.0}])
    terms = loss_terms([standing(tmp_path, "alone", new), standing(tmp_path, "student", old)])
    assert list(terms) == ["pretext", "kd_feature", "kd_relation", "own"]
    assert terms["own"] == {"title": "My own", "unit": "metres"}
    assert terms["kd_feature"]["unit"] == "share of the variance"
    assert list(loss_terms([standing(tmp_path, "student", old)])) == ["kd_feature", "kd_relation"]


def test_curves_lie_in_a_band_of_one_standard_error(tmp_path):
    key = METRICS[0].key
    lines = [{"epoch": 0, key: 20.0, f"{key}_se": 4.0}, {"epoch": 1, key: 50.0, f"{key}_se": 3.0}]
    axes = Figure().subplots()
    runs = [standing(tmp_path, "student", record(tmp_path, epochs=lines))]
    draw_accuracy(axes, METRICS[0], runs, choose_looks(runs))
    (band,) = axes.collections
    corners = {tuple(point) for path in band.get_paths() for point in path.vertices.tolist()}
    assert corners == {(0, 16), (0, 24), (1, 47), (1, 53)}
    old = Figure().subplots()
    runs = [standing(tmp_path, "student", record(tmp_path, epochs=[{"epoch": 0, key: 20.0}, {"epoch": 1, key: 50.0}]))]
    draw_accuracy(old, METRICS[0], runs, choose_looks(runs))
    assert [path for band in old.collections for path in band.get_paths()] == []  # no error known, no band
    assert old.lines[0].get_ydata().tolist() == [20, 50]
