"""What people write without this package, doing the same work on the same clips: the yardsticks of the load benchmark.

Both run in the worker processes of torch's DataLoader, which also puts the batches together.

- `ShardClips`: webdataset reads the shards from front to back, Pillow decodes the frames that are wanted.
- `VideoClips`: PyAV seeks in the original video and decodes the window that holds the clips.
"""

import io
import itertools
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import av
import numpy as np
import torch
import webdataset
from numpy.typing import NDArray
from PIL import Image
from torch.utils.data import DataLoader, Dataset, IterableDataset, get_worker_info

from pclkd.pipeline.dali import MEAN, STD
from pclkd.pipeline.recipe import ClipPlan, Recipe
from pclkd.sharding.index import ShardIndex

__all__ = ["ShardClips", "VideoClips", "read_window", "torch_loader"]

Frames = Mapping[int, NDArray[np.uint8]]
"""Decoded frames, uint8 [height, width, 3], by frame number."""


class _ClipMaker:
    """Turns decoded frames into the clips of a sample; the index is opened in each worker, not sent to it."""

    def __init__(self, root: Path, recipe: Recipe, crop: int) -> None:
        self.index = ShardIndex.open(root, check_shards=False)
        self._recipe, self._crop = recipe, crop
        self._mean = 255 * torch.tensor(MEAN).view(3, 1, 1, 1)
        self._scale = 1 / (255 * torch.tensor(STD).view(3, 1, 1, 1))

    def wanted(self, sample: int) -> NDArray[np.int64]:
        """Numbers of the frames that the sample's clips are made of, ascending, each once."""
        return np.unique(self._plan(sample).frames)

    def clips(self, sample: int, frames: Frames) -> torch.Tensor:
        """[V, C, T, H, W] float32: cropped, flipped, normalised."""
        plan, size = self._plan(sample), self._crop
        views = []
        for view, numbers in enumerate(plan.frames[0]):
            top, left = int(plan.augment.top[0, view]), int(plan.augment.left[0, view])
            clip = np.stack([frames[int(number)][top : top + size, left : left + size] for number in numbers])
            views.append(clip[:, :, ::-1] if plan.augment.flip[0, view] else clip)
        pixels = torch.from_numpy(np.stack(views)).permute(0, 4, 1, 2, 3)
        return pixels.float().sub_(self._mean).mul_(self._scale)

    def _plan(self, sample: int) -> ClipPlan:
        sizes = self.index.sample_sizes(np.array([sample]))
        counts = np.array([self.index.frame_count(sample)])
        return self._recipe.plan(0, np.array([sample]), counts, sizes, self._crop)


class ShardClips(IterableDataset[tuple[int, torch.Tensor]]):
    """(sample id, clips [V, C, T, H, W]) out of shards, shard by shard; the workers share the shards.

    Args:
        root: the shard set.
        samples: [n] sample ids: the first n of the set, so that no shard is read further than needed.
        recipe: which clips.
        crop: their height and width in pixels.
    """

    def __init__(self, root: Path, samples: NDArray[np.int64], recipe: Recipe, crop: int) -> None:
        self._arguments = (root, recipe, crop)
        self._samples = samples

    def __iter__(self) -> Iterator[tuple[int, torch.Tensor]]:
        """The samples of this worker's shards."""
        maker = _ClipMaker(*self._arguments)
        index = maker.index
        ids = {index.key(int(sample)): int(sample) for sample in self._samples}
        shards, counts = np.unique(index.sample_shard[self._samples], return_counts=True)
        worker = get_worker_info()
        mine = slice(worker.id, None, worker.num_workers) if worker else slice(None)
        for shard, count in zip(shards[mine].tolist(), counts[mine].tolist(), strict=True):
            url = index.shard_url(shard)
            stored = webdataset.DataPipeline(webdataset.SimpleShardList([url]), webdataset.tarfile_to_samples())
            for entry in itertools.islice(stored, count):
                sample = ids[entry["__key__"]]
                yield sample, maker.clips(sample, _decode_jpegs(entry["mjpeg"], sample, maker))


class VideoClips(Dataset[tuple[int, torch.Tensor]]):
    """(sample id, clips [V, C, T, H, W]) out of the original videos, resized to the size of the stored frames.

    Args:
        root: the shard set; its index tells how many frames a video has.
        samples: [n] sample ids.
        videos: path of each sample's video, by key.
        recipe: which clips.
        crop: their height and width in pixels.
    """

    def __init__(
        self, root: Path, samples: NDArray[np.int64], videos: Mapping[str, Path], recipe: Recipe, crop: int
    ) -> None:
        self._arguments = (root, recipe, crop)
        self._samples, self._videos = samples, videos
        self._maker: _ClipMaker | None = None

    def __len__(self) -> int:
        return len(self._samples)

    def __getitem__(self, position: int) -> tuple[int, torch.Tensor]:
        """Decode one sample."""
        if self._maker is None:
            self._maker = _ClipMaker(*self._arguments)
        maker, sample = self._maker, int(self._samples[position])
        path = self._videos[maker.index.key(sample)]
        return sample, maker.clips(sample, read_window(path, maker.wanted(sample).tolist(), maker.index.smallest_frame))


def read_window(path: Path, wanted: Sequence[int], size: tuple[int, int]) -> dict[int, NDArray[np.uint8]]:
    """Decode the `wanted` frames of a video, resized to (height, width).

    Starts at the last key frame before them, counts in decode order from there, and stops after the last one.

    Args:
        path: the video.
        wanted: frame numbers, ascending.
        size: height and width in pixels.
    """
    found: dict[int, NDArray[np.uint8]] = {}
    rest = set(wanted)
    with av.open(str(path), metadata_errors="replace") as container:
        stream = container.streams.video[0]
        stream.thread_type = "NONE"  # the workers are processes, one a core
        number = _seek(container, stream, wanted[0])
        for frame in container.decode(stream):
            if number in rest:
                small = frame.reformat(width=size[1], height=size[0], format="rgb24", interpolation="BICUBIC")
                found[number] = small.to_ndarray().astype(np.uint8, copy=False)
                rest.discard(number)
                if not rest:
                    break
            number += 1
    return found


def torch_loader(
    dataset: Dataset[tuple[int, torch.Tensor]], batch_size: int, workers: int, *, pin_memory: bool
) -> DataLoader[tuple[int, torch.Tensor]]:
    """A DataLoader as its users set it up: worker processes that stay, one thread each."""
    return DataLoader(
        dataset,
        batch_size=batch_size,
        num_workers=workers,
        persistent_workers=True,
        pin_memory=pin_memory,
        # The threads of DALI and torch in this process do not survive a fork.
        multiprocessing_context="spawn",
        worker_init_fn=_one_thread,
    )


def _one_thread(worker: int) -> None:  # noqa: ARG001
    torch.set_num_threads(1)


def _decode_jpegs(stream: bytes, sample: int, maker: _ClipMaker) -> dict[int, NDArray[np.uint8]]:
    """Decode the wanted frames of a Motion-JPEG stream."""
    first = int(maker.index.sample_frames[sample])
    lengths = maker.index.frame_length[first : first + maker.index.frame_count(sample)]
    ends = np.cumsum(lengths)
    decoded = {}
    for number in maker.wanted(sample).tolist():
        jpeg = stream[int(ends[number] - lengths[number]) : int(ends[number])]
        decoded[number] = np.asarray(Image.open(io.BytesIO(jpeg)))
    return decoded


def _seek(container: "av.container.InputContainer", stream: "av.VideoStream", frame: int) -> int:
    """Go to the last key frame at or before `frame`; the number of the frame that is decoded next."""
    rate, base = stream.average_rate, stream.time_base
    if frame == 0 or not rate or not base:
        return 0
    container.seek(int(frame / rate / base), stream=stream)
    packet = next(container.demux(stream), None)
    landed = None if packet is None or packet.dts is None or not packet.is_keyframe else round(packet.dts * base * rate)
    if landed is None or not 0 <= landed <= frame:
        landed = 0
    container.seek(int(landed / rate / base), stream=stream)
    return landed
