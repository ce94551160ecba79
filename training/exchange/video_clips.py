"""Clips of one video file, as a trained backbone wants them: for a few videos, without packing shards."""

from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch

from pclkd.pipeline.clips.covering import uniform_starts
from pclkd.pipeline.clips.sampling import clip_frames
from pclkd.pipeline.pixels.colours import MEAN, STD
from pclkd.pipeline.pixels.finish import residual
from pclkd.sharding.common.errors import InputError
from pclkd.sharding.video.frames import UnreadableVideoError, choose_pixels
from pclkd.sharding.video.settings import PackSettings

__all__ = ["video_clips"]


def video_clips(
    path: Path | str,
    *,
    clips: int = 10,
    frames: int = 16,
    crop: int = 112,
    modality: Literal["residual", "rgb"] = "residual",
    size: tuple[int, int] | int = (128, 171),
    fps: float = 0,
) -> torch.Tensor:
    """Uniformly spaced clips, centre crop, normalised: what evaluation shows a network, without the JPEG between.

    Only the frames of the clips are kept, however long the video is.

    Args:
        path: of the video.
        clips: how many.
        frames: frames a clip; shorter videos loop.
        crop: height and width of a clip, in pixels.
        modality: of the training; the card of an exported backbone tells it.
        size: height and width that frames are resized to before the crop, or their short side alone.
        fps: frames a second that clips are taken from; 0: as many as the video has.

    Returns:
        [clips, 3, frames, crop, crop] float32.

    Raises:
        InputError: the file is no video that can be decoded, or the crop does not fit the size.
    """
    short = size if isinstance(size, int) else min(size)
    if crop > short:
        stored = size if isinstance(size, int) else f"{size[0]}x{size[1]}"
        raise InputError(f"a crop of {crop} out of frames of {stored}", remedy="use a larger size")
    height, width, short = (0, 0, size) if isinstance(size, int) else (*size, 0)
    stored_as = PackSettings(height, width, short, fps)
    try:
        found, count = choose_pixels(
            Path(path), stored_as, lambda count: _chosen(count, clips, frames).ravel().tolist()
        )
    except UnreadableVideoError as error:
        raise InputError(f"{path} {error}", remedy="give a video file") from None
    pixels = {number: _centre(frame, crop) for number, frame in found.items()}
    # n = clip, t = frame, h, w, c
    stacked = np.stack([[pixels[number] for number in clip] for clip in _chosen(count, clips, frames).tolist()])
    shown = torch.from_numpy(stacked).float().div_(255)
    normalised = ((shown - torch.tensor(MEAN)) / torch.tensor(STD)).permute(0, 4, 1, 2, 3)
    return (residual(normalised) if modality == "residual" else normalised).contiguous()


def _centre(frame: npt.NDArray[np.uint8], crop: int) -> npt.NDArray[np.uint8]:
    top, left = ((side - crop) // 2 for side in frame.shape[:2])
    return frame[top : top + crop, left : left + crop]


def _chosen(count: int, clips: int, frames: int) -> npt.NDArray[np.int64]:
    """Return the frames of each clip out of `count`, int64 [clips, frames]."""
    counts = np.array([count])
    chosen: npt.NDArray[np.int64] = clip_frames(uniform_starts(counts, clips, frames), frames, counts)[0]
    return chosen
