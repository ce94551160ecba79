"""Every augmentation operator against torchvision's on real frames, and the two differences that are meant."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from pclkd.pipeline.pixels.dali import Colours
from pclkd.pipeline.pixels.parity import OPERATORS, Parity, Way, decoded, measure, reference
from pclkd.pipeline.reading.reader import FrameReader
from pclkd.sharding.shards.index import ShardIndex

SIZE, CROP = (64, 86), 56
BY_DESIGN = {"contrast", "hue", "colour jitter"}


@pytest.fixture(scope="module")
def clips(real_shards: Path) -> list[list[np.ndarray]]:
    index = ShardIndex.open(real_shards)
    reader = FrameReader(index)
    found = [reader.read(sample, np.arange(3) * 15) for sample in range(0, 64, 4)]
    reader.close()
    return found


@pytest.fixture(scope="module", params=["graph", "fused"])
def parity(request: pytest.FixtureRequest, clips: list[list[np.ndarray]]) -> dict[str, Parity]:
    colours: Colours = request.param
    return measure(clips, SIZE, CROP, Way(colours))


def test_every_operator_is_within_its_tolerance(parity: dict[str, Parity]) -> None:
    assert set(parity) == set(OPERATORS)
    assert {name for name, operator in OPERATORS.items() if operator.within is None} == BY_DESIGN
    for name, found in parity.items():
        mean, largest = OPERATORS[name].within or (np.inf, np.inf)
        assert found.mean <= mean + 1e-4, (name, found)
        assert found.largest <= largest + 1e-3, (name, found)
    assert parity["scale-jittered crop"].p99 <= 1.001


def test_on_a_cpu_scale_jittered_windows_are_torchvisions(clips: list[list[np.ndarray]]) -> None:
    operator = OPERATORS["scale-jittered crop"]
    ours = decoded(clips, SIZE, CROP, Way("fused"), operator)
    np.testing.assert_allclose(ours, reference(clips, SIZE, CROP, operator), atol=1e-3)


def test_the_operators_change_what_they_are_given(clips: list[list[np.ndarray]]) -> None:
    """A tolerance says nothing of an operator that does nothing."""
    plain = decoded(clips, SIZE, CROP, Way("fused"), OPERATORS["crop"])
    for name in set(OPERATORS) - {"crop", "normalise", "residual"}:
        assert np.abs(decoded(clips, SIZE, CROP, Way("fused"), OPERATORS[name]) - plain).mean() > 1.5, name


def test_contrast_differs_from_torchvision_by_one_offset_a_frame(clips: list[list[np.ndarray]]) -> None:
    """(1 - c) * (128 - the frame's mean luma): ours keeps mid-grey, torchvision the frame's mean."""
    operator = OPERATORS["contrast"]
    ours, theirs = decoded(clips, SIZE, CROP, Way("fused"), operator), reference(clips, SIZE, CROP, operator)
    luma = decoded(clips, SIZE, CROP, Way("none"), OPERATORS["crop"]) @ np.array([0.299, 0.587, 0.114])
    factor = np.resize(np.array(operator.changes["contrast"]), len(clips))[:, None]
    offset = (1 - factor) * (128 - luma.mean(axis=(2, 3)))
    inside = (np.minimum(ours, theirs) > 1) & (np.maximum(ours, theirs) < 254)
    assert inside.mean() > 0.5
    rest = (ours - theirs - offset[:, :, None, None, None])[inside]
    assert np.abs(rest).max() < 2.1
    assert np.abs(offset).max() > 10  # so it is no matter of rounding


def test_hue_turns_the_same_way_as_torchvision_but_keeps_luma(clips: list[list[np.ndarray]]) -> None:
    weights = np.array([0.299, 0.587, 0.114])
    plane = np.array([[0.596, -0.274, -0.321], [0.211, -0.523, 0.311]])
    plain = decoded(clips, SIZE, CROP, Way("none"), OPERATORS["crop"])
    for turn in (-36.0, 36.0):
        operator = dataclasses.replace(OPERATORS["hue"], changes={"hue": [turn]})
        ours, theirs = (
            way - plain
            for way in (decoded(clips, SIZE, CROP, Way("fused"), operator), reference(clips, SIZE, CROP, operator))
        )
        chroma = [(way @ plane.T).ravel() for way in (ours, theirs)]
        assert np.corrcoef(*chroma)[0, 1] > 0.7
        inside = ((ours + plain > 1) & (ours + plain < 254)).all(-1)
        assert np.abs(ours @ weights)[inside].max() < 1.5
        assert np.abs(theirs @ weights)[inside].max() > 8
