"""Frame augmentation: one draw a clip, the same for all its frames, independent from clip to clip.

Source: PCL, arXiv 2010.15464, and its published code: random crop, ColorJitter(0.4, 0.4, 0.4, 0.1) with p 0.8,
grayscale p 0.2, Gaussian blur sigma 0.1-2.0 with p 0.5, horizontal flip p 0.5, ImageNet mean and std.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from pclkd.pipeline.randomness import Purpose, uniform
from pclkd.pipeline.settings import Settings

__all__ = ["AugmentSettings", "ClipAugment", "centre_crop", "draw"]

Floats = NDArray[np.float32]
Ints = NDArray[np.int32]
_DRAWS = 12  # uniform numbers a clip; appended to, never reordered: the order is part of reproducibility


class AugmentSettings(Settings):
    """The random transforms of training clips."""

    flip_probability: float = Field(default=0.5, ge=0, le=1)
    """Chance of a horizontal flip."""
    jitter_probability: float = Field(default=0.8, ge=0, le=1)
    """Chance that brightness, contrast, saturation and hue are changed."""
    brightness: float = Field(default=0.4, ge=0, lt=1)
    """Brightness factor within 1 -+ this."""
    contrast: float = Field(default=0.4, ge=0, lt=1)
    """Contrast factor within 1 -+ this."""
    saturation: float = Field(default=0.4, ge=0, lt=1)
    """Saturation factor within 1 -+ this."""
    hue: float = Field(default=0.1, ge=0, le=0.5)
    """Hue shift within -+ this, in turns of the colour circle."""
    grayscale_probability: float = Field(default=0.2, ge=0, le=1)
    """Chance that all colour is taken away."""
    blur_probability: float = Field(default=0.5, ge=0, le=1)
    """Chance of a Gaussian blur."""
    blur_sigma: tuple[float, float] = (0.1, 2.0)
    """Smallest and largest standard deviation of the blur, in pixels."""

    @property
    def changes_colours(self) -> bool:
        """Whether any clip's colours or sharpness may change."""
        return max(self.jitter_probability, self.grayscale_probability, self.blur_probability) > 0


@dataclass(frozen=True)
class ClipAugment:
    """Parameters of the transforms, one a clip; every array is [B, V].

    Attributes:
        top, left: crop position in pixels.
        flip: 1 where the clip is mirrored.
        brightness, contrast, saturation: factors; 1 changes nothing, saturation 0 is grayscale.
        hue: rotation in degrees.
        sigma: standard deviation of the blur in pixels; 0 is no blur.
    """

    top: Ints
    left: Ints
    flip: Ints
    brightness: Floats
    contrast: Floats
    saturation: Floats
    hue: Floats
    sigma: Floats


def draw(
    seed: int, epoch: int, sample_ids: NDArray[np.int64], views: int, room: tuple[int, int], settings: AugmentSettings
) -> ClipAugment:
    """Draw the parameters of every clip, a pure function of (seed, epoch, sample id, view).

    Args:
        seed: the run's seed.
        epoch: the epoch.
        sample_ids: [B] sample ids.
        views: clips a sample (V).
        room: (height, width) of the stored frames less the crop, in pixels, both >= 0.
        settings: ranges and probabilities.
    """
    u = uniform(seed, epoch, sample_ids, Purpose.AUGMENT, views * _DRAWS).reshape(-1, views, _DRAWS)
    jitter = u[..., 3] < settings.jitter_probability
    gray = u[..., 8] < settings.grayscale_probability
    blur = u[..., 9] < settings.blur_probability
    low, high = settings.blur_sigma

    def factor(number: NDArray[np.float64], reach: float) -> Floats:
        return np.where(jitter, 1 + reach * (2 * number - 1), 1.0).astype(np.float32)

    return ClipAugment(
        top=(u[..., 0] * (room[0] + 1)).astype(np.int32),
        left=(u[..., 1] * (room[1] + 1)).astype(np.int32),
        flip=(u[..., 2] < settings.flip_probability).astype(np.int32),
        brightness=factor(u[..., 4], settings.brightness),
        contrast=factor(u[..., 5], settings.contrast),
        saturation=np.where(gray, np.float32(0), factor(u[..., 6], settings.saturation)),
        hue=np.where(jitter, 360 * settings.hue * (2 * u[..., 7] - 1), 0.0).astype(np.float32),
        sigma=np.where(blur, low + (high - low) * u[..., 10], 0.0).astype(np.float32),
    )


def centre_crop(samples: int, views: int, room: tuple[int, int]) -> ClipAugment:
    """The parameters of evaluation: the centre crop, and nothing else."""
    shape = (samples, views)
    one, zero = np.ones(shape, np.float32), np.zeros(shape, np.float32)
    return ClipAugment(
        top=np.full(shape, room[0] // 2, np.int32),
        left=np.full(shape, room[1] // 2, np.int32),
        flip=np.zeros(shape, np.int32),
        brightness=one,
        contrast=one,
        saturation=one,
        hue=zero,
        sigma=zero,
    )
