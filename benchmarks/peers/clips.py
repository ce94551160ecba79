"""What people write without this package, in common to all of them: decoded frames to clips, batches by a DataLoader.

The clips are those of a plan of this package, so that every peer crops, flips and colours the very same frames in the
same way. Colours and blur are torchvision's own operators, one call a clip, on float tensors (its quickest form on a
CPU: uint8 tensors and Pillow images take longer for the same).
"""

import multiprocessing
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms.v2 import functional

from pclkd.pipeline.clips.augment import ClipAugment
from pclkd.pipeline.clips.recipe import ClipPlan, Recipe
from pclkd.pipeline.pixels.colours import MEAN, STD, blur_window
from pclkd.pipeline.pixels.finish import residual
from pclkd.sharding.shards.index import ShardIndex

__all__ = ["ClipMaker", "Frames", "PeerWork", "Sample", "torch_loader"]

Frames = Mapping[int, NDArray[np.uint8]]
"""Decoded frames, uint8 [height, width, 3], by frame number."""
Sample = tuple[int, torch.Tensor]
"""Sample id, and its clips [V, C, T, H, W]."""


@dataclass(frozen=True)
class PeerWork:
    """What is to be done with every sample.

    Attributes:
        root: the shard set, whose index tells how long videos are and how large their frames are stored.
        recipe: which clips, and how they are augmented.
        crop: their height and width in pixels.
        residual: each frame minus its predecessor, or the frames themselves.
    """

    root: str | Path
    recipe: Recipe
    crop: int
    residual: bool


class ClipMaker:
    """Turns decoded frames into the clips of a sample; the index is opened in each worker, not sent to it."""

    def __init__(self, work: PeerWork) -> None:
        self.index = ShardIndex.open(work.root, check_shards=False)
        self._work = work
        self._mean = torch.tensor(MEAN).view(3, 1, 1, 1)
        self._std = torch.tensor(STD).view(3, 1, 1, 1)

    def size(self, sample: int) -> tuple[int, int]:
        """Height and width of the sample's stored frames, in pixels."""
        height, width = self.index.sample_sizes([sample])[0].tolist()
        return height, width

    def wanted(self, sample: int) -> list[int]:
        """Numbers of the frames that the sample's clips are made of, ascending, each once."""
        return [int(number) for number in np.unique(self._plan(sample).frames)]

    def clips(self, sample: int, frames: Frames) -> torch.Tensor:
        """[V, C, T, H, W] float32: cropped, coloured, blurred, flipped, normalised, with pretext task and residual."""
        plan, size = self._plan(sample), self._work.crop
        views = []
        for view, numbers in enumerate(plan.frames[0]):
            top, left = int(plan.augment.top[0, view]), int(plan.augment.left[0, view])
            pixels = np.stack([frames[int(number)][top : top + size, left : left + size] for number in numbers])
            clip = torch.from_numpy(pixels).permute(0, 3, 1, 2)  # [T, C, H, W]
            if self._work.recipe.colours:
                clip = _colour(clip.float().div_(255), plan.augment, view).mul_(255)
            views.append(clip.flip(3) if plan.augment.flip[0, view] else clip)
        clips = torch.stack(views).permute(0, 2, 1, 3, 4).float()
        clips = clips.sub_(255 * self._mean).div_(255 * self._std)
        if plan.pretext is not None:
            clips = plan.pretext.apply(clips[None])[0]
        return residual(clips) if self._work.residual else clips

    def _plan(self, sample: int) -> ClipPlan:
        return self._work.recipe.plan(
            0,
            np.array([sample]),
            np.array([self.index.frame_count(sample)]),
            self.index.sample_sizes([sample]),
            self._work.crop,
        )


def _colour(clip: torch.Tensor, augment: ClipAugment, view: int) -> torch.Tensor:
    """Jitter the colours of [T, C, H, W] in [0, 1] and blur it, where the plan asks for it."""
    brightness, contrast, saturation, hue, sigma = (
        float(getattr(augment, name)[0, view]) for name in ("brightness", "contrast", "saturation", "hue", "sigma")
    )
    if brightness != 1:
        clip = functional.adjust_brightness(clip, brightness)
    if contrast != 1:
        clip = functional.adjust_contrast(clip, contrast)
    if saturation != 1:  # 0 takes all colour away, as RandomGrayscale does
        clip = functional.adjust_saturation(clip, saturation)
    if hue:
        clip = functional.adjust_hue(clip, hue / 360)
    if sigma:
        window = int(blur_window(np.array(sigma, np.float32)))
        clip = functional.gaussian_blur(clip, [window, window], [sigma, sigma])
    return clip


def torch_loader(
    dataset: "Dataset[Sample]", samples: int, batch_size: int, workers: int, *, pin_memory: bool
) -> DataLoader[Sample]:
    """A DataLoader as its users set it up: worker processes that stay, one thread each.

    Args:
        dataset: makes `samples` samples in a pass.
        samples: see `dataset`.
        batch_size: at most. A worker makes whole batches, so they are smaller where some would have none to make.
        workers: processes.
        pin_memory: for a GPU.
    """
    # The threads of DALI and torch in this process do not survive a fork, so a server without them forks the workers.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["pclkd.benchmarks.peers.shards", "pclkd.benchmarks.peers.videos"])
    warnings.filterwarnings("ignore", message="This DataLoader will create")  # 16 processes on fewer cores
    return DataLoader(
        dataset,
        batch_size=min(batch_size, -(-samples // workers)),
        num_workers=workers,
        persistent_workers=True,
        pin_memory=pin_memory,
        multiprocessing_context=context,
        worker_init_fn=_one_thread,
    )


def _one_thread(worker: int) -> None:  # noqa: ARG001
    torch.set_num_threads(1)
