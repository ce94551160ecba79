"""How far a picture is from another: PSNR and SSIM, in NumPy alone."""

import numpy as np
import numpy.typing as npt

__all__ = ["luma", "psnr", "ssim"]

Picture = npt.NDArray[np.float64]

_PEAK = 255.0
_HIGHEST_DB = 60.0
_RADIUS = 5
_SIGMA = 1.5
_LUMA = np.array([0.299, 0.587, 0.114])  # BT.601, as in JPEG files


def luma(rgb: npt.NDArray[np.uint8]) -> Picture:
    """Return the luma of a picture, uint8 [H, W, 3] in RGB, as float64 [H, W] from 0 to 255."""
    weighted: Picture = rgb @ _LUMA
    return weighted


def psnr(one: npt.ArrayLike, other: npt.ArrayLike) -> float:
    """Return the peak signal-to-noise ratio of two pictures with values from 0 to 255, in dB over all channels.

    It ends at 60 dB, a quarter of a step of 8 bits: equal pictures would be infinitely good, and spoil every mean.
    """
    error = float(np.mean(np.square(np.asarray(one, np.float64) - np.asarray(other, np.float64))))
    highest_error = _PEAK**2 / 10 ** (_HIGHEST_DB / 10)
    return float(10 * np.log10(_PEAK**2 / max(error, highest_error)))


def ssim(one: npt.ArrayLike, other: npt.ArrayLike) -> float:
    """Return the mean structural similarity of two pictures, [H, W] or [H, W, C] with values from 0 to 255.

    Wang, Bovik, Sheikh and Simoncelli, "Image quality assessment", IEEE TIP 2004: a Gaussian window of 11 x 11 pixels
    with sigma 1.5, K1 = 0.01, K2 = 0.03, population variances, only windows that lie inside the picture. With channels
    it is their mean.
    """
    x, y = np.asarray(one, np.float64), np.asarray(other, np.float64)
    mean_x, mean_y = _blurred(x), _blurred(y)
    variances = _blurred(x * x) - mean_x**2 + _blurred(y * y) - mean_y**2
    covariance = _blurred(x * y) - mean_x * mean_y
    small, large = (0.01 * _PEAK) ** 2, (0.03 * _PEAK) ** 2
    likeness = (2 * mean_x * mean_y + small) * (2 * covariance + large)
    return float(np.mean(likeness / ((mean_x**2 + mean_y**2 + small) * (variances + large))))


def _blurred(picture: Picture) -> Picture:
    """Return Gaussian means of every window inside the picture, [H - 10, W - 10, ...]."""
    window = np.exp(-0.5 * (np.arange(-_RADIUS, _RADIUS + 1) / _SIGMA) ** 2)
    window /= window.sum()
    rows = picture.shape[0] - 2 * _RADIUS
    down: Picture = sum((weight * picture[at : at + rows] for at, weight in enumerate(window)), np.zeros(()))
    columns = picture.shape[1] - 2 * _RADIUS
    both: Picture = sum((weight * down[:, at : at + columns] for at, weight in enumerate(window)), np.zeros(()))
    return both
