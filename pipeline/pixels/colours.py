"""What the colour operators do, in one place: their order and their maths.

A clip's colours are one affine map a pixel, rounded to 0..255, then a blur, rounded again, then a normalisation:

    levels --(brightness . contrast . YIQ^-1 . hue . saturation . YIQ, + grey point)--> levels --(Gaussian)--> levels
           --((x / 255 - mean) / std)--> network input

Grayscale is saturation 0. Hue turns the colour plane (I, Q) by an angle; luma stays. Contrast scales the distance
from mid-grey, 128. This is DALI's `color_twist`; `fused` does the same on a CPU, `kernels` on a GPU. torchvision turns
hue in HSV, takes contrast around the picture's mean, and rounds after each operator: docs/augmentation.md shows how far
that goes.
"""

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from pclkd.pipeline.clips.augment import ClipAugment
from pclkd.pipeline.clips.moments import MEAN, STD

__all__ = ["MEAN", "STD", "blur_window", "colour_maps", "gaussian_taps", "normalised"]

_GREY_POINT = 128.0
_YIQ = np.array([[0.299, 0.587, 0.114], [0.596, -0.274, -0.321], [0.211, -0.523, 0.311]])  # DALI's digits
_RGB = np.linalg.inv(_YIQ)


def colour_maps(augment: ClipAugment) -> NDArray[np.float32]:
    """The affine colour map of each clip, [B * V, 3, 4]: out = map[:, :3] @ rgb + map[:, 3], on levels 0..255."""
    brightness, contrast, saturation, hue = (
        getattr(augment, name).reshape(-1).astype(np.float64)
        for name in ("brightness", "contrast", "saturation", "hue")
    )
    cos, sin = saturation * np.cos(np.deg2rad(hue)), saturation * np.sin(np.deg2rad(hue))
    plane = np.zeros((len(hue), 3, 3))
    plane[:, 0, 0] = 1
    plane[:, 1, 1], plane[:, 1, 2] = cos, sin
    plane[:, 2, 1], plane[:, 2, 2] = -sin, cos
    linear = (brightness * contrast)[:, None, None] * (_RGB @ plane @ _YIQ)
    offset = np.broadcast_to((_GREY_POINT * brightness * (1 - contrast))[:, None, None], (len(hue), 3, 1))
    return np.concatenate([linear, offset], axis=2).astype(np.float32)


def blur_window(sigma: NDArray[np.float32]) -> NDArray[np.int32]:
    """Taps of the Gaussian: three deviations to each side. One tap copies: so clips without blur pass DALI's operator.

    Args:
        sigma: standard deviations in pixels; 0 is no blur.
    """
    return np.where(sigma > 0, 2 * np.ceil(3 * sigma).astype(np.int32) + 1, 1).astype(np.int32)


def gaussian_taps(sigma: float) -> NDArray[np.float32]:
    """The weights of the Gaussian, float32 [`blur_window`], of sum 1; it is applied across and down."""
    window = int(blur_window(np.array(sigma, np.float32)))
    return np.asarray(cv2.getGaussianKernel(window, sigma, cv2.CV_32F)[:, 0], np.float32)


def normalised(mean: Sequence[float] = MEAN, std: Sequence[float] = STD) -> NDArray[np.float32]:
    """The normalisation as a map [3, 4] of levels 0..255, in the form of `colour_maps`.

    Args:
        mean: of the channels, in [0, 1].
        std: of the channels, in [0, 1].
    """
    scale = 255 * np.array(std)
    return np.concatenate([np.diag(1 / scale), (-255 * np.array(mean) / scale)[:, None]], axis=1).astype(np.float32)
