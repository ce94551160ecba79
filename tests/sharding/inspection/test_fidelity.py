import numpy as np
import pytest

from pclkd.sharding.inspection.quality import luma, psnr, ssim


def pictures(seed: int, *shape: int) -> tuple[np.ndarray, np.ndarray]:
    draw = np.random.default_rng(seed)
    ys, xs = np.indices(shape[:2])
    smooth = 127 + 90 * np.sin(xs / 9 + seed) * np.cos(ys / 7)
    one = smooth[..., None].repeat(shape[2], axis=-1) if len(shape) == 3 else smooth
    other = one + draw.normal(0, 3 + 10 * seed, one.shape)
    return one.clip(0, 255).astype(np.uint8), other.clip(0, 255).astype(np.uint8)


@pytest.mark.parametrize("shape", [(128, 171), (128, 171, 3), (16, 16, 3), (11, 40)])
@pytest.mark.parametrize("seed", [0, 1, 5])
def test_as_scikit_image_has_them(shape: tuple[int, ...], seed: int) -> None:
    metrics = pytest.importorskip("skimage.metrics")
    one, other = pictures(seed, *shape)
    assert psnr(one, other) == pytest.approx(metrics.peak_signal_noise_ratio(one, other, data_range=255), abs=1e-9)
    reference = metrics.structural_similarity(
        one,
        other,
        data_range=255,
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
        channel_axis=-1 if len(shape) == 3 else None,
    )
    assert ssim(one, other) == pytest.approx(reference, abs=1e-6)


def test_equal_pictures() -> None:
    one, _ = pictures(2, 32, 48, 3)
    assert psnr(one, one) == 60
    assert ssim(one, one) == pytest.approx(1)
    assert psnr(np.zeros((16, 16)), np.full((16, 16), 255)) == 0


def test_luma_of_colours() -> None:
    colours = np.array([[[255, 255, 255], [255, 0, 0], [0, 255, 0], [0, 0, 255]]], np.uint8)
    assert luma(colours)[0] == pytest.approx([255, 76.245, 149.685, 29.07])
