"""Figures say the numbers that they are given; film strips show the frames, and attention where it is."""

import base64
import io
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from PIL import Image

from pclkd.training.visualize.drawing import Curves, Matrix, Points, class_colour, write_picture
from pclkd.training.visualize.strips import attended, film_strip, picture

NAMES = ["a<b", "c", "d"]


def matrix(values: np.ndarray, names: list[str]) -> Matrix:
    return Matrix("how often", "is", "answered", names, names, values, full=100, decimals=0)


def test_a_matrix_tells_every_cell_that_is_not_empty() -> None:
    root = ElementTree.fromstring(matrix(np.array([[90, 10, 0], [0, np.nan, 5], [0, 0, 100.0]]), NAMES).svg())
    cells = {group.findtext("title"): group for group in root.findall("g")}
    assert list(cells) == ["a<b / a<b: 90", "a<b / c: 10", "c / c: –", "c / d: 5", "d / d: 100"]
    boxes = {title: group.find("rect") for title, group in cells.items()}
    frame = root.find("rect")
    wide, high = float(frame.get("width")), float(frame.get("height"))
    for title, (row, column, share) in zip(
        cells, [(0, 0, 0.9), (0, 1, 0.1), (1, 1, 0), (1, 2, 0.05), (2, 2, 1)], strict=True
    ):
        box = boxes[title]
        assert float(box.get("fill-opacity")) == pytest.approx(share)
        assert (float(box.get("x")) - float(frame.get("x"))) / wide == pytest.approx(column / 3, abs=0.01)
        assert (float(box.get("y")) - float(frame.get("y"))) / high == pytest.approx(row / 3, abs=0.01)
        assert cells[title].findtext("text") == title.rpartition(": ")[2]


def test_a_matrix_of_many_classes_stays_small() -> None:
    drawn = matrix(np.eye(400), [f"class {number}" for number in range(400)]).svg()
    assert len(drawn) < 80_000
    root = ElementTree.fromstring(drawn)
    assert len(root.findall("g")) == 400 and len(root.findall("text")) == 2  # no names but those of the axes


def test_points_keep_their_distances() -> None:
    places = np.array([[0.0, 0.0], [4.0, 0.0], [0.0, 1.0], [4.0, 1.0]])
    points = Points("videos", "1", "2", places, np.array([0, 1, 0, 1]), ["x", "y"], ["p", "q", "r", "s&t"])
    circles = ElementTree.fromstring(points.svg()).findall("circle")
    assert [circle.get("data-label") for circle in circles] == ["0", "1", "0", "1"]
    assert circles[3].findtext("title") == "s&t"
    at = np.array([[float(circle.get("cx")), -float(circle.get("cy"))] for circle in circles])  # down is less
    drawn, given = at - at[0], places - places[0]
    assert drawn == pytest.approx(given * drawn[1, 0] / 4, abs=0.1)


def test_curves_are_drawn_where_their_axes_say() -> None:
    root = ElementTree.fromstring(f"<p>{Curves('c', 'epoch', {'one': ([0, 3, 6], [20, -3.0, 80])}).svg()}</p>")
    chart = root.find("svg")
    left, right, first, last = map(float, chart.get("data-x").split())
    bottom, top, low, high = map(float, chart.get("data-y").split())
    line = next(part for part in chart.iter("polyline") if part.get("class") == "median")
    found = [tuple(map(float, point.split(","))) for point in line.get("points").split()]
    epochs = [first + (x - left) / (right - left) * (last - first) for x, _ in found]
    values = [low + (bottom - y) / (bottom - top) * (high - low) for _, y in found]
    assert epochs == pytest.approx([0, 3, 6], abs=0.05)
    assert values == pytest.approx([20, 0, 80], abs=0.3)  # less than nothing is drawn as nothing


def test_colours_of_classes_differ() -> None:
    for classes in (2, 8, 101):
        for shade in (0, 1):
            assert len({class_colour(label, classes)[shade] for label in range(classes)}) == classes


def test_pictures_stand_side_by_side(tmp_path: Path) -> None:
    some = matrix(np.eye(3) * 100, NAMES)
    for count in (1, 2):
        write_picture(tmp_path / "p.png", [some, Curves("c", "epoch", {"one": ([0, 1], [2, 3])})][:count])
        with Image.open(tmp_path / "p.png") as found:
            assert found.width == pytest.approx(832 * count, abs=2)


def frames(count: int) -> np.ndarray:
    """Frame t has the grey level 10 t everywhere."""
    return np.broadcast_to((10 * np.arange(count, dtype=np.uint8))[:, None, None, None], (count, 8, 8, 3))


def test_a_strip_has_evenly_spaced_frames() -> None:
    strip = film_strip(frames(10), 4, 16)
    assert strip.shape == (16, 64, 3)
    assert [int(level) for level in strip[0, 8::16, 0]] == [0, 30, 60, 90]
    assert film_strip(frames(2), 4, 16).shape == (16, 32, 3)


def test_attention_lies_where_it_is_and_its_bar_says_when() -> None:
    where = torch.zeros(2, 2, 2)
    where[1, 1, 0] = 1  # late, below, left
    flat = np.full((4, 8, 8, 3), 100, np.uint8)
    laid = attended(flat, where, 4, 20, most=0.25)
    assert laid.shape == (26, 80, 3)
    changed = np.abs(laid[:20].astype(int) - 100).sum(2)
    row, column = np.unravel_index(changed.argmax(), changed.shape)
    assert row >= 10 and column in range(60, 70)
    assert changed[:, :20].max() == 0 and changed[:5].max() == 0
    bars = (laid[23, :, 0] == 196).reshape(4, 20).sum(1)
    assert bars.tolist() == [0, 5, 15, 19]  # of 20, one of which keeps frames apart
    assert (attended(flat, torch.zeros(2, 2, 2), 4, 20, most=0.0)[:20] == 100).all()


def test_a_picture_of_a_page_is_a_picture() -> None:
    address = picture(film_strip(frames(4), 4, 32))
    kind, _, data = address.partition(";base64,")
    assert kind == "data:image/jpeg"
    with Image.open(io.BytesIO(base64.b64decode(data))) as found:
        assert found.size == (128, 32)
