"""Tuples as pictures: a sheet of one, an overview of several, a GIF."""

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from pclkd.pipeline.clips.augment import ClipAugment
from pclkd.pipeline.clips.recipe import ClipPlan
from pclkd.sharding.common.pictures import NARROWEST, contact_sheet

__all__ = [
    "Frame",
    "ShownTuple",
    "describe_augment",
    "describe_class",
    "describe_frames",
    "draw_moving",
    "draw_overview",
    "draw_sheet",
    "shown_views",
]


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


Frame = NDArray[np.uint8]
_GAP = 6


@dataclass(frozen=True)
class ShownTuple:
    """One sample as the network sees it.

    Attributes:
        key: of the video.
        row: its row in the plan.
        plan: the decisions.
        views: [V] which decoded clip each place shows.
        clips: [V, T, H, W, 3] denormalised.
        residuals: [V, T, H, W, 3] grey where nothing moves, or None where the network sees the frames themselves.
        originals: [V, T] stored frames with the window drawn on them, or None.
        fps: of the video.
    """

    key: str
    row: int
    plan: ClipPlan
    views: NDArray[np.int64]
    clips: Frame
    residuals: Frame | None
    originals: list[list[Frame]] | None
    fps: float


def draw_sheet(own: ShownTuple) -> Image.Image:
    """A row of frames for each clip: as stored, as augmented, as residual."""
    frames = own.clips.shape[1]
    picked = sorted({round(number) for number in np.linspace(0, frames - 1, min(8, frames)).tolist()})
    rows, captions = [], []
    for place, view in enumerate(own.views.tolist()):
        text = f"clip {place + 1}: {describe_frames(own.plan.frames[own.row, view])}; "
        text += describe_augment(own.plan.augment, own.row, view)
        if own.originals is not None:
            rows.append([_as_wide(own.originals[place][t], own.clips.shape[3]) for t in picked])
            captions.append(f"clip {place + 1}, as stored; the window is framed")
        rows.append([own.clips[place, t] for t in picked])
        captions.append(text)
        if own.residuals is not None:
            rows.append([own.residuals[place, t] for t in picked])
            captions.append("")
    notes = [describe_class(own.plan, own.row), f"{len(picked)} of {frames} frames of each clip"]
    if own.residuals is not None:
        notes.append(
            "the network sees the residuals: each frame's predecessor minus the frame, grey where nothing moves"
        )
    return contact_sheet(rows, captions, title=own.key, subtitle="\n".join(notes))


def _as_wide(frame: Frame, width: int) -> Frame:
    """A stored frame as wide as a sheet shows clips of `width` pixels, so that columns stand below each other."""
    wide = width * -(-NARROWEST // width) if width < NARROWEST else width
    height = round(frame.shape[0] * wide / frame.shape[1])
    return np.asarray(Image.fromarray(frame).resize((wide, height), Image.Resampling.LANCZOS))


def draw_moving(own: ShownTuple) -> list[Frame]:
    """The clips of a sample side by side, frame by frame; above them as stored, below them as residuals."""
    strips = []
    for t in range(own.clips.shape[1]):
        bands = [_beside(list(own.clips[:, t]))]
        if own.originals is not None:
            bands.insert(0, _beside([clip[t] for clip in own.originals]))
        if own.residuals is not None:
            bands.append(_beside(list(own.residuals[:, t])))
        strips.append(_stacked(bands))
    return strips


def _beside(frames: list[Frame]) -> Frame:
    gap = np.full((frames[0].shape[0], _GAP, 3), 255, np.uint8)
    return np.concatenate([part for frame in frames for part in (frame, gap)][:-1], axis=1)


def _stacked(bands: list[Frame]) -> Frame:
    """Bands of several widths below each other, centred on white."""
    width = max(band.shape[1] for band in bands)
    parts: list[Frame] = []
    for band in bands:
        left = (width - band.shape[1]) // 2
        padding = ((0, _GAP), (left, width - band.shape[1] - left), (0, 0))
        parts.append(np.pad(band, padding, constant_values=255))
    return np.concatenate(parts)[:-_GAP]


def draw_overview(tuples: list[ShownTuple], *, compare: bool) -> Image.Image:
    """A row a sample: two frames of the outer clips, four of the middle one, whose class is told."""
    rows, captions, places = [], [], []
    for own in tuples:
        views, frames = own.clips.shape[:2]
        shown = []
        for place in range(views):
            count = min(frames, 4 if place == views // 2 else 2)
            shown += [(place, math.floor(frames * (i + 0.5) / count)) for i in range(count)]
        texts = [f"clip {place + 1}, frame {t + 1}" for place, t in shown]
        if compare and own.originals is not None:
            rows.append([_as_wide(own.originals[place][t], own.clips.shape[3]) for place, t in shown])
            captions.append(f"{own.key}, as stored")
            places.append([""] * len(shown))
        rows.append([own.clips[place, t] for place, t in shown])
        spans = " | ".join(describe_frames(own.plan.frames[own.row, view]) for view in own.views.tolist())
        captions.append(f"{describe_class(own.plan, own.row)}; {spans}{'' if compare else f' of {own.key}'}")
        places.append(texts)
    return contact_sheet(
        rows,
        captions,
        frame_captions=places,
        title="Augmented tuples and their pretext class",
        subtitle="A sample is a row; the network is asked what was done to the middle clip."
        if tuples and tuples[0].plan.pretext is not None
        else "",
    )
