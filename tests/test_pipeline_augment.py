import numpy as np

from pclkd.pipeline.augment import AugmentSettings, centre_crop, draw

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
