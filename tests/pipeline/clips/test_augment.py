import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torchvision.transforms import v2

from pclkd.pipeline.clips.augment import AugmentSettings, centre_crop, draw

N, V = 4000, 3
SIZES = np.tile([64, 107], (N, 1))
CROP = 48


def test_draws_follow_the_published_probabilities_and_ranges() -> None:
    drawn = draw(7, 3, np.arange(N), V, SIZES, CROP, AugmentSettings())
    assert drawn.top.min() == 0 and drawn.top.max() == 16
    assert drawn.left.min() == 0 and drawn.left.max() == 59
    assert abs(drawn.flip.mean() - 0.5) < 0.02
    gray = drawn.saturation == 0
    assert abs(gray.mean() - 0.2) < 0.02
    jittered = drawn.brightness != 1
    assert abs(jittered.mean() - 0.8) < 0.02
    np.testing.assert_array_equal(jittered, drawn.contrast != 1)
    for values in (drawn.brightness, drawn.contrast, drawn.saturation[~gray]):
        assert values.min() >= 0.6 and values.max() <= 1.4
        assert abs(values.mean() - 1) < 0.01
    assert -36 <= drawn.hue.min() < -35 and 35 < drawn.hue.max() <= 36
    blurred = drawn.sigma > 0
    assert abs(blurred.mean() - 0.5) < 0.02
    assert 0.1 <= drawn.sigma[blurred].min() < 0.11 and 1.99 < drawn.sigma.max() <= 2.0


def test_clips_of_a_sample_are_drawn_independently() -> None:
    drawn = draw(0, 0, np.arange(N), V, SIZES, CROP, AugmentSettings())
    for values in (drawn.top, drawn.flip, drawn.brightness, drawn.sigma):
        correlation = np.corrcoef(values.T.astype(float))
        assert np.abs(correlation[~np.eye(V, dtype=bool)]).max() < 0.06
    # And the parameters of one clip do not follow each other.
    table = np.stack([drawn.top, drawn.left, drawn.flip, drawn.brightness, drawn.contrast, drawn.hue, drawn.sigma])
    within = np.corrcoef(table.reshape(len(table), -1))
    assert np.abs(within[~np.eye(len(table), dtype=bool)]).max() < 0.06


def test_a_draw_depends_on_the_sample_alone_not_on_its_batch() -> None:
    whole = draw(5, 2, np.arange(10), V, SIZES[:10], CROP, AugmentSettings())
    part = draw(5, 2, np.array([7, 3]), V, SIZES[:2], CROP, AugmentSettings())
    np.testing.assert_array_equal(part.hue, whole.hue[[7, 3]])
    np.testing.assert_array_equal(part.top, whole.top[[7, 3]])
    assert not np.array_equal(draw(5, 3, np.arange(10), V, SIZES[:10], CROP, AugmentSettings()).top, whole.top)


def test_evaluation_takes_the_centre_and_changes_nothing() -> None:
    plain = centre_crop(SIZES[:2], 10, CROP)
    assert plain.top.shape == (2, 10)
    assert set(plain.top.ravel()) == {8} and set(plain.left.ravel()) == {29}
    assert not plain.flip.any() and not plain.sigma.any() and not plain.hue.any()
    assert np.all(plain.brightness == 1) and np.all(plain.contrast == 1) and np.all(plain.saturation == 1)


def uniform_distance(values: np.ndarray, low: float, high: float) -> float:
    """Kolmogorov's distance from the uniform distribution, times root n; above 1.95 in one case of a thousand."""
    ranks = (np.sort(values.ravel()) - low) / (high - low)
    n = len(ranks)
    return float(max((np.arange(1, n + 1) / n - ranks).max(), (ranks - np.arange(n) / n).max()) * np.sqrt(n))


def sample_distance(a: np.ndarray, b: np.ndarray) -> float:
    """The same between two samples."""
    both = np.sort(np.concatenate([a, b]))
    cdf = [np.searchsorted(np.sort(x), both, side="right") / len(x) for x in (a, b)]
    return float(np.abs(cdf[0] - cdf[1]).max() * np.sqrt(len(a) * len(b) / (len(a) + len(b))))


def chi_square(values: np.ndarray, count: int) -> float:
    """Of integers that should be uniform over range(count), as standard deviations from its mean."""
    found = np.bincount(values.ravel(), minlength=count)
    wanted = values.size / count
    return float((((found - wanted) ** 2 / wanted).sum() - (count - 1)) / np.sqrt(2 * (count - 1)))


def test_every_parameter_is_uniform_over_its_range() -> None:
    drawn = draw(11, 4, np.arange(N), V, SIZES, CROP, AugmentSettings())
    gray, jittered, blurred = drawn.saturation == 0, drawn.brightness != 1, drawn.sigma > 0
    for values, low, high in (
        (drawn.brightness[jittered], 0.6, 1.4),
        (drawn.contrast[jittered], 0.6, 1.4),
        (drawn.saturation[jittered & ~gray], 0.6, 1.4),
        (drawn.hue[jittered], -36, 36),
        (drawn.sigma[blurred], 0.1, 2.0),
    ):
        assert uniform_distance(values, low, high) < 1.95
    for values, count in ((drawn.top, 17), (drawn.left, 60), (drawn.flip, 2)):
        assert abs(chi_square(values, count)) < 4
    # The yardsticks see what they should: a shifted range and a missing place.
    assert uniform_distance(drawn.hue[jittered], -36, 40) > 1.95
    assert chi_square(np.minimum(drawn.top, 15), 17) > 4


def test_each_sample_has_windows_of_its_own_frame() -> None:
    """Every frame size gets all of its places, and none outside."""
    sizes = np.array([[48, 48], [50, 48], [48, 61], [100, 90]]).repeat(500, axis=0)
    drawn = draw(2, 0, np.arange(2000), V, sizes, CROP, AugmentSettings())
    for height, width in ((48, 48), (50, 48), (48, 61), (100, 90)):
        own = (sizes == [height, width]).all(-1)
        assert set(drawn.top[own].ravel()) == set(range(height - CROP + 1))
        assert set(drawn.left[own].ravel()) == set(range(width - CROP + 1))
    assert (drawn.height == CROP).all() and (drawn.width == CROP).all()


@pytest.mark.parametrize(
    ("size", "scale", "aspect"),
    [
        ((128, 171), (0.08, 1.0), (3 / 4, 4 / 3)),
        ((128, 171), (0.2, 0.7), (1.0, 1.0)),
        ((171, 96), (0.5, 1.0), (0.5, 2.0)),
    ],
)
def test_scale_jittered_windows_are_distributed_as_torchvisions(
    size: tuple[int, int], scale: tuple[float, float], aspect: tuple[float, float]
) -> None:
    settings = AugmentSettings(crop_scale=scale, crop_aspect=aspect)
    drawn = draw(13, 0, np.arange(2000), 2, np.tile(size, (2000, 1)), 112, settings)
    torch.manual_seed(3)
    transform = v2.RandomResizedCrop(112, scale=scale, ratio=aspect)
    picture = [torch.zeros(3, *size)]
    theirs = [transform.make_params(picture) for _ in range(4000)]
    for name in ("height", "width", "top", "left"):
        wanted = np.array([parameters[name] for parameters in theirs])
        assert sample_distance(getattr(drawn, name).ravel(), wanted) < 1.95, name
    assert (drawn.top + drawn.height <= size[0]).all() and (drawn.left + drawn.width <= size[1]).all()
    assert min(drawn.top.min(), drawn.left.min()) >= 0


@pytest.mark.parametrize(
    ("aspect", "window"), [((1.0, 1.0), (128, 128)), ((0.5, 0.75), (128, 96)), ((2.0, 3.0), (86, 171))]
)
def test_where_no_window_of_that_area_fits_the_largest_one_is_taken(
    aspect: tuple[float, float], window: tuple[int, int]
) -> None:
    settings = AugmentSettings(crop_scale=(0.98, 1.0), crop_aspect=aspect)
    drawn = draw(1, 0, np.arange(50), 2, np.tile([128, 171], (50, 1)), 112, settings)
    assert set(zip(drawn.height.ravel().tolist(), drawn.width.ravel().tolist(), strict=True)) == {window}


def test_scale_jitter_leaves_all_other_draws_alone() -> None:
    plain = draw(5, 2, np.arange(50), V, SIZES[:50], CROP, AugmentSettings())
    jittered = draw(5, 2, np.arange(50), V, SIZES[:50], CROP, AugmentSettings(crop_scale=(0.3, 1.0)))
    for name in ("flip", "brightness", "contrast", "saturation", "hue", "sigma"):
        np.testing.assert_array_equal(getattr(plain, name), getattr(jittered, name))
    assert (plain.height != jittered.height).any()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("crop_scale", (0.5, 1.5)),
        ("crop_scale", (0.0, 1.0)),
        ("crop_scale", (0.8, 0.4)),
        ("crop_aspect", (-1.0, 1.0)),
        ("blur_sigma", (2.0, 0.1)),
    ],
)
def test_ranges_that_make_no_sense_are_refused(name: str, value: tuple[float, float]) -> None:
    with pytest.raises(ValidationError, match=name):
        AugmentSettings.model_validate({name: value})
