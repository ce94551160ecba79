"""Frame augmentation: one draw a clip, the same for all its frames, independent from clip to clip.

    stored frame          window                      clip
    +-----------------+
    |   (top, left)   |
    |      +------+   |   height x width, resized
    |      |      |   |  ----------------------->  crop x crop, colours, blur, flip, normalise
    |      +------+   |   where it differs
    +-----------------+

Source: PCL, arXiv 2010.15464, and its published code: random crop, ColorJitter(0.4, 0.4, 0.4, 0.1) with p 0.8,
grayscale p 0.2, Gaussian blur sigma 0.1-2.0 with p 0.5, horizontal flip p 0.5, ImageNet mean and std.
The scale-jittered crop is torchvision's RandomResizedCrop.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from pclkd.pipeline.randomness import Purpose, uniform
from pclkd.sharding.common.settings import Settings

__all__ = ["AugmentSettings", "ClipAugment", "centre_crop", "draw"]

Floats = NDArray[np.float32]
Ints = NDArray[np.int32]
_DRAWS = 12  # uniform numbers a clip; appended to, never reordered: the order is part of reproducibility
_WIDEST_BLUR = 28.0  # pixels; DALI has no window above 169 of them on a GPU
_WIDEST = 16.0
_WINDOW_TRIES = 10  # as torchvision has it; (area, aspect) of each try follow behind all clips' _DRAWS


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

    crop_scale: tuple[float, float] | None = None
    """Scale-jittered crop: smallest and largest share of the frame's area that a window covers before it is resized
    to the clip. None: a window of exactly the clip's size, as PCL has it."""
    crop_aspect: tuple[float, float] = (1.0, 1.0)
    """Smallest and largest width / height of a scale-jittered window; (1, 1) does not distort."""

    @model_validator(mode="after")
    def _refuse_empty_ranges(self) -> Self:
        for name in ("blur_sigma", "crop_scale", "crop_aspect"):
            low, high = getattr(self, name) or (1.0, 1.0)
            if not 0 < low <= high:
                raise ValueError(f"{name} {low:g}, {high:g}: needs two numbers above 0, the smaller one first")
        if self.blur_sigma[1] > _WIDEST_BLUR:
            raise ValueError(f"blur_sigma {self.blur_sigma[1]:g}: use up to {_WIDEST_BLUR:g} pixels")
        if self.crop_aspect[0] < 1 / _WIDEST or self.crop_aspect[1] > _WIDEST:
            raise ValueError(f"crop_aspect {self.crop_aspect}: use 1/{_WIDEST:g} to {_WIDEST:g}")
        if self.crop_scale is not None and self.crop_scale[1] > 1:
            raise ValueError(f"crop_scale {self.crop_scale}: a window cannot cover more than the whole frame (1)")
        return self

    @property
    def changes_colours(self) -> bool:
        """Whether any clip's colours or sharpness may change."""
        return max(self.jitter_probability, self.grayscale_probability, self.blur_probability) > 0


@dataclass(frozen=True)
class ClipAugment:
    """Parameters of the transforms, one a clip; every array is [B, V].

    Attributes:
        top, left: the window's position in the stored frame, in pixels.
        height, width: the window's size in pixels; it is resized to the clip's where it differs.
        flip: 1 where the clip is mirrored.
        brightness, contrast, saturation: factors; 1 changes nothing, saturation 0 is grayscale.
        hue: rotation in degrees.
        sigma: standard deviation of the blur in pixels; 0 is no blur.
    """

    top: Ints
    left: Ints
    height: Ints
    width: Ints
    flip: Ints
    brightness: Floats
    contrast: Floats
    saturation: Floats
    hue: Floats
    sigma: Floats


def draw(
    seed: int,
    epoch: int,
    sample_ids: NDArray[np.int64],
    views: int,
    sizes: NDArray[np.int64],
    crop: int,
    settings: AugmentSettings,
) -> ClipAugment:
    """Draw the parameters of every clip, a pure function of (seed, epoch, sample id, view) and the sample's size.

    Args:
        seed: the run's seed.
        epoch: the epoch.
        sample_ids: [B] sample ids.
        views: clips a sample (V).
        sizes: [B, 2] stored (height, width) in pixels, each at least `crop` unless windows are scale-jittered.
        crop: height and width of a clip, in pixels.
        settings: ranges and probabilities.
    """
    tries = 0 if settings.crop_scale is None else 2 * _WINDOW_TRIES
    numbers = uniform(seed, epoch, sample_ids, Purpose.AUGMENT, views * (_DRAWS + tries))
    u = numbers[:, : views * _DRAWS].reshape(-1, views, _DRAWS)
    jitter = u[..., 3] < settings.jitter_probability
    gray = u[..., 8] < settings.grayscale_probability
    blur = u[..., 9] < settings.blur_probability
    low, high = settings.blur_sigma
    if settings.crop_scale is None:
        window = np.full((len(sample_ids), views, 2), crop)
    else:
        window = _windows(numbers[:, views * _DRAWS :].reshape(-1, views, _WINDOW_TRIES, 2), sizes, settings)
    room = sizes[:, None, :] - window

    def factor(number: NDArray[np.float64], reach: float) -> Floats:
        return np.where(jitter, 1 + reach * (2 * number - 1), 1.0).astype(np.float32)

    return ClipAugment(
        top=(u[..., 0] * (room[..., 0] + 1)).astype(np.int32),
        left=(u[..., 1] * (room[..., 1] + 1)).astype(np.int32),
        height=window[..., 0].astype(np.int32),
        width=window[..., 1].astype(np.int32),
        flip=(u[..., 2] < settings.flip_probability).astype(np.int32),
        brightness=factor(u[..., 4], settings.brightness),
        contrast=factor(u[..., 5], settings.contrast),
        saturation=np.where(gray, np.float32(0), factor(u[..., 6], settings.saturation)),
        hue=np.where(jitter, 360 * settings.hue * (2 * u[..., 7] - 1), 0.0).astype(np.float32),
        sigma=np.where(blur, low + (high - low) * u[..., 10], 0.0).astype(np.float32),
    )


def centre_crop(sizes: NDArray[np.int64], views: int, crop: int) -> ClipAugment:
    """The parameters of evaluation: the centre crop, and nothing else.

    Args:
        sizes: [B, 2] stored (height, width) in pixels, each at least `crop`.
        views: clips a sample (V).
        crop: height and width of a clip, in pixels.
    """
    shape = (len(sizes), views)
    one, zero, side = np.ones(shape, np.float32), np.zeros(shape, np.float32), np.full(shape, crop, np.int32)
    corner = np.broadcast_to((sizes[:, None, :] - crop) // 2, (*shape, 2)).astype(np.int32)
    return ClipAugment(
        top=corner[..., 0],
        left=corner[..., 1],
        height=side,
        width=side,
        flip=np.zeros(shape, np.int32),
        brightness=one,
        contrast=one,
        saturation=one,
        hue=zero,
        sigma=zero,
    )


def _windows(u: NDArray[np.float64], sizes: NDArray[np.int64], settings: AugmentSettings) -> NDArray[np.int64]:
    """[B, V, 2] height and width of scale-jittered windows: the first try that fits, as RandomResizedCrop does.

    Args:
        u: [B, V, tries, 2] uniform numbers for (area, aspect).
        sizes: [B, 2] stored (height, width).
        settings: with `crop_scale`.
    """
    low, high = settings.crop_scale or (1.0, 1.0)
    narrow, wide = settings.crop_aspect
    frame = sizes[:, None, :]
    area = frame.prod(-1)[..., None] * (low + (high - low) * u[..., 0])
    aspect = narrow * (wide / narrow) ** u[..., 1]
    tried = np.rint(np.sqrt(np.stack([area / aspect, area * aspect], axis=-1))).astype(np.int64)
    fits = ((tried >= 1) & (tried <= frame[:, :, None, :])).all(-1)
    first = np.take_along_axis(tried, fits.argmax(-1)[..., None, None], axis=2)[:, :, 0]
    # Nothing fits: the largest window of an allowed aspect.
    height, width = frame[..., 0], frame[..., 1]
    largest = np.stack(
        [np.minimum(height, np.rint(width / narrow)), np.minimum(width, np.rint(height * wide))], axis=-1
    ).astype(np.int64)
    return np.where(fits.any(-1)[..., None], first, largest)
