"""How fast clips come out of the shards, beside other ways to read the same clips.

Every case delivers the same number of clips in a pass, from its first request to its last batch on the device, so none
reads ahead while another one is timed. The passes are all alike, so after the warm-up shards and videos are in the page
cache: this measures decoding, not disks.
"""

from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset

from pclkd.benchmarks.clip_shape import ClipShape, synchronise
from pclkd.benchmarks.reference_loaders import ShardClips, VideoClips, torch_loader
from pclkd.benchmarks.result import BenchmarkResult, make_result
from pclkd.benchmarks.rounds import Work
from pclkd.benchmarks.session import Session
from pclkd.pipeline.augment import AugmentSettings
from pclkd.pipeline.loader import ClipLoader, LoaderSettings
from pclkd.pipeline.order import sequential_positions
from pclkd.pipeline.prepare import BatchPreparer
from pclkd.pipeline.recipe import Recipe, TupleRecipe
from pclkd.pipeline.world import World
from pclkd.sharding.datasets import read_dataset
from pclkd.sharding.errors import InputError
from pclkd.sharding.index import ShardIndex
from pclkd.training.distributed import choose_device

__all__ = ["LoadBenchmark", "find_videos"]

# Crop and flip alone, so that a few lines around another library can do the very same work.
_NO_COLOURS = AugmentSettings(jitter_probability=0, grayscale_probability=0, blur_probability=0)
_NOTES = (
    "range_reads plans, reads and checks the bytes, and decodes nothing: the loader can never be faster",
    "shards and videos are in the page cache: the warm-up read them",
)
_PLAIN_NOTE = "every case but range_reads delivers the same clips: cropped, flipped, normalised"
_PCL_NOTE = "pcl is the whole augmentation and the pretext task; no other loader here does that, so none is compared"


@dataclass(frozen=True)
class LoadBenchmark:
    """What is measured.

    Attributes:
        data: the shard set.
        videos: the originals by sample key, or None to leave them out.
        recipe: plain: crop, flip, normalise; pcl: all that training does, for this package's loader alone.
        shape: of a batch.
        samples: samples a pass at most.
        workers: threads of this package's loader and processes of the others; 0 is one a core.
    """

    data: Path
    videos: Mapping[str, Path] | None
    recipe: Literal["plain", "pcl"]
    shape: ClipShape
    samples: int
    workers: int

    def run(self, session: Session) -> BenchmarkResult:
        """Measure.

        Raises:
            InputError: a shard set that cannot be read, too few samples for a batch, a crop that does not fit, or a
                sample without its video.
        """
        index = ShardIndex.open(self.data)
        shape = self.shape.fitted(index)
        batches = min(len(index), self.samples) // shape.batch_size
        if not batches:
            raise InputError(
                f"{min(len(index), self.samples)} samples of {self.data} do not fill a batch of {shape.batch_size}",
                remedy="lower --batch-size or raise --samples",
            )
        samples = np.arange(batches * shape.batch_size)
        device = choose_device(World())
        workers = self.workers or World().cores
        with ExitStack() as stack:
            cases = self._cases(stack, index, samples, shape, device, workers)
            rates = session.measure(cases)
        references = [name for name in ("torch_pyav", "torch_webdataset") if name in rates]
        return make_result(
            "load",
            "clips/s",
            rates,
            references[0] if references else "pclkd",
            {
                "recipe": self.recipe,
                "clips_per_pass": shape.views * len(samples),
                **shape.as_dict(),
                "stored_frames": "x".join(map(str, index.smallest_frame)),
                "workers": workers,
                "device": device.type,
                "data_fingerprint": index.fingerprint[:16],
            },
            notes=[_PLAIN_NOTE if self.recipe == "plain" else _PCL_NOTE, *_NOTES],
        )

    def _cases(
        self,
        stack: ExitStack,
        index: ShardIndex,
        samples: NDArray[np.int64],
        shape: ClipShape,
        device: torch.device,
        workers: int,
    ) -> dict[str, Work]:
        plain = TupleRecipe(seed=0, tuples=shape.tuples, augment=_NO_COLOURS, transform=False)
        recipe = plain if self.recipe == "plain" else TupleRecipe(seed=0, tuples=shape.tuples)
        settings = LoaderSettings(
            batch_size=shape.batch_size,
            crop=shape.side,
            threads=workers,
            modality="rgb" if self.recipe == "plain" else "residual",
        )
        loader = stack.enter_context(ClipLoader(index, samples, recipe, settings, device=device))
        cases: dict[str, Work] = {
            "pclkd": lambda: _drain((batch.clips for batch in loader.epoch(0)), device),
            "range_reads": _range_reads(stack, index, samples, recipe, shape, workers),
        }
        if self.recipe == "plain":
            cases["torch_webdataset"] = _torch(
                ShardClips(self.data, samples, plain, shape.side), shape, workers, device
            )
            if self.videos is not None:
                _refuse_missing(index, samples, self.videos)
                videos = VideoClips(self.data, samples, self.videos, plain, shape.side)
                cases["torch_pyav"] = _torch(videos, shape, workers, device)
        return cases


def find_videos(videos: Path, splits: Path) -> dict[str, Path]:
    """The original videos by sample key.

    Raises:
        InputError: a folder or a list that cannot be used.
    """
    return {video.key: Path(video.path) for video in read_dataset(videos, splits).videos}


def _refuse_missing(index: ShardIndex, samples: NDArray[np.int64], videos: Mapping[str, Path]) -> None:
    missing = [key for key in map(index.key, samples.tolist()) if key not in videos]
    if missing:
        raise InputError(
            f"{len(missing)} packed videos are not among the originals, the first is {missing[0]}",
            remedy=f"give --videos and --splits that {index.root} was packed from",
        )


def _drain(batches: Iterator[torch.Tensor], device: torch.device) -> float:
    """Take all batches [B, V, ...]; how many clips they held."""
    clips = 0
    for batch in batches:
        clips += batch.shape[0] * batch.shape[1]
    synchronise(device)
    return clips


def _range_reads(
    stack: ExitStack, index: ShardIndex, samples: NDArray[np.int64], recipe: Recipe, shape: ClipShape, workers: int
) -> Work:
    preparer = stack.enter_context(
        closing(BatchPreparer(index, samples, recipe, shape.side, 0, shape.batch_size, replace=True))
    )
    pool = stack.enter_context(ThreadPoolExecutor(workers))
    positions = sequential_positions(len(samples), shape.batch_size, World())

    def work() -> float:
        prepared = pool.map(lambda batch: preparer.read(batch, 0), positions)
        return sum(batch.valid * recipe.views for batch in prepared if batch is not None)

    return work


def _torch(dataset: Dataset[tuple[int, torch.Tensor]], shape: ClipShape, workers: int, device: torch.device) -> Work:
    loader = torch_loader(dataset, shape.batch_size, workers, pin_memory=device.type == "cuda")
    return lambda: _drain((clips.to(device, non_blocking=True) for _, clips in loader), device)
