"""How far each augmentation operator is from torchvision's on the same frames and parameters.

The operators are taken one at a time. Crop and resize start from JPEGs that Pillow decodes; all others from the frames
as the decoder crops them, so that a figure tells of one operator alone. Errors are in levels of 0..255, also behind the
normalisation, where one level is 1 / (255 * std).
"""

import dataclasses
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torchvision.transforms.v2 import functional

from pclkd.pipeline.clips.augment import ClipAugment, centre_crop
from pclkd.pipeline.pixels.colours import MEAN, STD, blur_window
from pclkd.pipeline.pixels.dali import Colours, FrameDecoder, FrameGraph
from pclkd.pipeline.pixels.finish import residual

__all__ = ["OPERATORS", "ClipJpegs", "Operator", "Parity", "Way", "apart", "decoded", "measure", "reference"]

ClipJpegs = Sequence[Sequence[NDArray[np.uint8]]]
"""N clips of T encoded frames each."""
Ints = NDArray[np.int64]
Numbers = dict[str, float]
Reference = Callable[[Any, Numbers], Any]
"""(frames [T, 3, H, W], a clip's parameters) -> frames; torchvision's functions have no types."""


@dataclass(frozen=True)
class Parity:
    """The error over all pixels of all clips, in levels.

    Attributes:
        mean: mean absolute error.
        p99: 99 % of the values are no further off.
        largest: largest absolute error.
    """

    mean: float
    p99: float
    largest: float


_CPU = torch.device("cpu")


@dataclass(frozen=True)
class Way:
    """Who decodes and augments.

    Attributes:
        colours: which of the decoder's ways.
        decode: where JPEGs are decoded.
        device: where frames are augmented.
    """

    colours: Colours
    decode: Literal["cpu", "mixed"] = "cpu"
    device: torch.device = _CPU


@dataclass(frozen=True)
class Operator:
    """One operator.

    Attributes:
        reference: what torchvision calls it.
        changes: parameters that are not neutral; a list of values is dealt out over the clips.
        whole_frame: whether the reference starts from the whole frame, decoded by Pillow.
        normalised: whether what is compared is the decoder's output or that in levels.
        within: (mean, largest) error in levels that rounding explains; None differs by design.
    """

    reference: Reference
    changes: dict[str, list[float]] = field(default_factory=dict)
    whole_frame: bool = False
    normalised: bool = False
    within: tuple[float, float] | None = None


def _same(frames: Any, p: Numbers) -> Any:  # noqa: ARG001
    return frames


def _flip(frames: Any, p: Numbers) -> Any:  # noqa: ARG001
    return functional.horizontal_flip(frames)


def _grayscale(frames: Any, p: Numbers) -> Any:  # noqa: ARG001
    return functional.rgb_to_grayscale(frames, 3)


def _crop(frames: Any, p: Numbers) -> Any:
    return functional.crop(frames, int(p["top"]), int(p["left"]), int(p["height"]), int(p["width"]))


def _resized(frames: Any, p: Numbers) -> Any:
    window = [int(p[name]) for name in ("top", "left", "height", "width")]
    return functional.resized_crop(frames, *window, [int(p["crop"])] * 2, antialias=True)


def _blur(frames: Any, p: Numbers) -> Any:
    window = int(blur_window(np.array(p["sigma"], np.float32)))
    return functional.gaussian_blur(frames, [window, window], [p["sigma"], p["sigma"]])


def _normalise(frames: Any, p: Numbers) -> Any:  # noqa: ARG001
    return functional.normalize(frames.float() / 255, list(MEAN), list(STD))


def _residual(frames: Any, p: Numbers) -> Any:
    clip = _normalise(frames, p)
    return torch.stack([clip[t - 1] - clip[t] for t in range(len(clip))])


def _jitter(frames: Any, p: Numbers) -> Any:
    frames = functional.adjust_brightness(frames, p["brightness"])
    frames = functional.adjust_contrast(frames, p["contrast"])
    frames = functional.adjust_saturation(frames, p["saturation"])
    return functional.adjust_hue(frames, p["hue"] / 360)


# Contrast, hue and with them the colour jitter differ by design; docs/augmentation.md tells how and why. Elsewhere
# torchvision cuts fractions off where these operators round.
OPERATORS: dict[str, Operator] = {
    "crop": Operator(_crop, whole_frame=True, within=(0, 0)),
    # Its largest are DALI's outermost columns, and 99 % are within a level.
    "scale-jittered crop": Operator(_resized, {"scale": [0.3, 0.5, 0.7, 0.95]}, whole_frame=True, within=(0.3, 10)),
    "flip": Operator(_flip, {"flip": [1]}, within=(0, 0)),
    "brightness": Operator(
        lambda frames, p: functional.adjust_brightness(frames, p["brightness"]),
        {"brightness": [0.6, 0.8, 1.2, 1.4]},
        within=(0.5, 1),
    ),
    "contrast": Operator(
        lambda frames, p: functional.adjust_contrast(frames, p["contrast"]),
        {"contrast": [0.6, 0.8, 1.2, 1.4]},
    ),
    "saturation": Operator(
        lambda frames, p: functional.adjust_saturation(frames, p["saturation"]),
        {"saturation": [0.6, 0.8, 1.2, 1.4]},
        within=(0.6, 2),
    ),
    "hue": Operator(lambda frames, p: functional.adjust_hue(frames, p["hue"] / 360), {"hue": [-36, -18, 18, 36]}),
    "grayscale": Operator(_grayscale, {"saturation": [0]}, within=(0.8, 2)),
    "blur": Operator(_blur, {"sigma": [0.1, 0.5, 1.0, 2.0]}, within=(0.3, 1)),
    "normalise": Operator(_normalise, normalised=True, within=(1e-4, 1e-3)),
    "residual": Operator(_residual, normalised=True, within=(1e-4, 1e-3)),
    "colour jitter": Operator(
        _jitter,
        {"brightness": [0.7, 1.3], "contrast": [1.3, 0.7], "saturation": [0.7, 1.3], "hue": [-20, 20]},
    ),
}
"""The operators by name; "colour jitter" is the four in torchvision's default order."""


def measure(clips: ClipJpegs, size: tuple[int, int], crop: int, way: Way) -> dict[str, Parity]:
    """The error of every operator.

    Args:
        clips: N clips of T frames.
        size: (height, width) of the stored frames.
        crop: height and width of the clips, in pixels.
        way: who decodes and augments.
    """
    return {
        name: apart(decoded(clips, size, crop, way, operator), reference(clips, size, crop, operator))
        for name, operator in OPERATORS.items()
    }


def apart(ours: NDArray[np.float64], theirs: NDArray[np.float64]) -> Parity:
    """The error between frames of one shape, in their unit."""
    error = np.abs(ours - theirs).ravel()
    return Parity(float(error.mean()), float(np.percentile(error, 99)), float(error.max()))


def decoded(clips: ClipJpegs, size: tuple[int, int], crop: int, way: Way, operator: Operator) -> NDArray[np.float64]:
    """[N, T, crop, crop, 3] of the decoder, in levels (scaled to levels where `operator.normalised`)."""
    augment = _augment(len(clips), size, crop, operator)
    graph = FrameGraph(
        frames=sum(map(len, clips)),
        crop=(crop, crop),
        colours=way.colours,
        decode=way.decode,
        device=way.device,
        threads=2,
    )
    decoder = FrameDecoder(graph)
    out = decoder.decode([jpeg for clip in clips for jpeg in clip], augment)[:, 0]
    decoder.close()
    out = (residual(out) if operator.reference is _residual else out).permute(0, 2, 3, 4, 1)
    std = 255 * np.array(STD)
    levels: NDArray[np.float64] = out.double().cpu().numpy() * std
    return levels if operator.normalised else levels + 255 * np.array(MEAN)


def reference(clips: ClipJpegs, size: tuple[int, int], crop: int, operator: Operator) -> NDArray[np.float64]:
    """[N, T, crop, crop, 3] of torchvision, on the scale of `decoded`."""
    augment = _augment(len(clips), size, crop, operator)
    pixels: NDArray[np.uint8]
    if operator.whole_frame:
        pixels = np.stack([np.stack([_pillow(jpeg) for jpeg in clip]) for clip in clips])
    else:
        pixels = np.rint(decoded(clips, size, crop, Way("none"), _NOTHING)).astype(np.uint8)
    out = []
    for number, clip in enumerate(torch.from_numpy(pixels).permute(0, 1, 4, 2, 3)):
        parameters = {name: float(values[number, 0]) for name, values in dataclasses.asdict(augment).items()}
        out.append(operator.reference(clip, {**parameters, "crop": crop}).permute(0, 2, 3, 1))
    levels: NDArray[np.float64] = torch.stack(out).double().numpy()
    return levels * 255 * np.array(STD) if operator.normalised else levels


def _pillow(jpeg: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.asarray(Image.open(io.BytesIO(jpeg.tobytes())).convert("RGB"))


_NOTHING = Operator(_same)


def _augment(clips: int, size: tuple[int, int], crop: int, operator: Operator) -> ClipAugment:
    sizes = np.tile(size, (clips, 1))
    neutral = centre_crop(sizes, 1, crop)
    values = {name: np.resize(np.array(dealt), (clips, 1)) for name, dealt in operator.changes.items()}
    if "scale" in values:
        values |= _window(sizes, values.pop("scale"))
    return dataclasses.replace(
        neutral, **{name: value.astype(getattr(neutral, name).dtype) for name, value in values.items()}
    )


def _window(sizes: Ints, scale: NDArray[np.float64]) -> dict[str, NDArray[np.int64]]:
    """Windows of the frame's own aspect and of shares `scale` of its area, off the centre."""
    height, width = (np.rint(sizes[:, axis, None] * np.sqrt(scale)).astype(np.int64) for axis in range(2))
    top, left = (sizes[:, :1] - height) // 3, (sizes[:, 1:] - width) * 2 // 3
    return {"height": height, "width": width, "top": top, "left": left}
