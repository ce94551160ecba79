"""What was done to clips, in words."""

import numpy as np
import torch
from numpy.typing import NDArray

from pclkd.pipeline.clips.augment import ClipAugment
from pclkd.pipeline.clips.recipe import ClipPlan

__all__ = ["describe_augment", "describe_class", "describe_frames", "shown_views"]


def describe_class(plan: ClipPlan, b: int) -> str:
    """Pretext class and parameters of sample b."""
    if plan.pretext is None:
        return "no pretext task"
    label = int(plan.pretext.label[b])
    name, told = plan.pretext.classes[label], plan.pretext.describe(b)
    return f"class {label} ({name})" if told == name else f"class {label} ({name}): {told}"


def describe_frames(numbers: NDArray[np.int64]) -> str:
    """Which frames of a video a clip shows, from its frame numbers [T]."""
    steps = np.diff(numbers)
    text = f"frames {numbers[0]}-{numbers[-1]}"
    if not len(steps) or (steps == 1).all():
        return text
    if steps[0] > 1 and (steps == steps[0]).all():
        return f"{text}, {steps[0]} at a time"
    if (steps >= 0).all():
        return f"{text}, the last one held"
    return f"{text}, going round"


def describe_augment(augment: ClipAugment, b: int, view: int) -> str:
    """Parameters of one clip's augmentation; what changes nothing is left out."""
    height, width, top, left = (int(getattr(augment, name)[b, view]) for name in ("height", "width", "top", "left"))
    parts = [f"window {height}x{width} at ({top}, {left})"]
    if augment.flip[b, view]:
        parts.append("flipped")
    for name in ("brightness", "contrast", "saturation"):
        value = float(getattr(augment, name)[b, view])
        if name == "saturation" and value == 0:
            parts.append("grayscale")
        elif value != 1:
            parts.append(f"{name} {value:.2f}")
    if hue := float(augment.hue[b, view]):
        parts.append(f"hue {hue:+.0f} degrees")
    if sigma := float(augment.sigma[b, view]):
        parts.append(f"blur sigma {sigma:.1f} px")
    return ", ".join(parts)


def shown_views(plan: ClipPlan) -> NDArray[np.int64]:
    """Which decoded clip is shown in each place, [B, V]: tasks about the order of clips exchange them.

    Found by handing the task clips that hold nothing but their own number.
    """
    samples, views, frames = plan.frames.shape
    numbers = torch.arange(views, dtype=torch.float32).reshape(1, views, 1, 1, 1, 1)
    if plan.pretext is not None:
        numbers = plan.pretext.apply(numbers.expand(samples, views, 1, frames, 4, 4).clone())
    found: NDArray[np.int64] = numbers[:, :, 0, 0, 0, 0].expand(samples, views).numpy().astype(np.int64)
    return found
