"""Peers that need no video decoder: webdataset and Pillow on the shards, and folders of JPEG frames.

Folders of frames read by many processes are how the published PCL code feeds its networks.
"""

import io
import itertools
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import webdataset
from numpy.typing import NDArray
from PIL import Image
from torch.utils.data import Dataset, IterableDataset, get_worker_info

from pclkd.benchmarks.peers.clips import ClipMaker, PeerWork, Sample
from pclkd.sharding.shards.index import ShardIndex

__all__ = ["FolderClips", "ShardClips", "frame_bounds", "write_frame_folders"]


class ShardClips(IterableDataset[Sample]):
    """(sample id, clips [V, C, T, H, W]) out of shards, read from front to back by webdataset, decoded by Pillow.

    The workers share the shards; where these cannot be dealt out evenly, every worker reads all of them and decodes
    its part of the samples, because reading costs much less than decoding.

    Args:
        work: what to do with a sample.
        samples: [n] sample ids: the first n of the set, so that no shard is read further than needed.
    """

    def __init__(self, work: PeerWork, samples: NDArray[np.int64]) -> None:
        self._work, self._samples = work, samples

    def __iter__(self) -> Iterator[Sample]:
        """The samples of this worker."""
        maker = ClipMaker(self._work)
        ids = {maker.index.key(int(sample)): int(sample) for sample in self._samples}
        shards, counts = np.unique(maker.index.sample_shard[self._samples], return_counts=True)
        worker = get_worker_info()
        number, workers = (worker.id, worker.num_workers) if worker else (0, 1)
        mine = slice(number, None, workers)
        whole = len(set(counts.tolist())) == 1 and len(shards) % workers == 0
        entries = (
            _entries(maker.index, shards[mine].tolist(), counts[mine].tolist())
            if whole
            else itertools.islice(_entries(maker.index, shards.tolist(), counts.tolist()), number, None, workers)
        )
        for key, stream in entries:
            sample = ids[key]
            bounds = frame_bounds(maker.index, sample)
            wanted = {frame: stream[slice(*bounds[frame].tolist())] for frame in maker.wanted(sample)}
            yield sample, maker.clips(sample, {frame: _decode(io.BytesIO(jpeg)) for frame, jpeg in wanted.items()})


class FolderClips(Dataset[Sample]):
    """(sample id, clips [V, C, T, H, W]) out of a folder of JPEG frames for each video.

    Args:
        work: what to do with a sample.
        samples: [n] sample ids.
        folder: what `write_frame_folders` wrote.
    """

    def __init__(self, work: PeerWork, samples: NDArray[np.int64], folder: Path) -> None:
        self._work, self._samples, self._folder = work, samples, folder
        self._maker: ClipMaker | None = None

    def __len__(self) -> int:
        return len(self._samples)

    def __getitem__(self, position: int) -> Sample:
        """Decode one sample."""
        if self._maker is None:
            self._maker = ClipMaker(self._work)
        maker, sample = self._maker, int(self._samples[position])
        folder = self._folder / maker.index.key(sample)
        frames = {number: _decode(folder / _frame_name(number)) for number in maker.wanted(sample)}
        return sample, maker.clips(sample, frames)


def write_frame_folders(index: ShardIndex, samples: Iterable[int], folder: Path) -> None:
    """Write the stored frames of the samples as `folder/KEY/000000.jpg` and so on."""
    for sample in samples:
        home = folder / index.key(sample)
        home.mkdir()
        first, last = int(index.sample_frames[sample]), int(index.sample_frames[sample + 1])
        with Path(index.shard_url(int(index.sample_shard[sample]))).open("rb") as shard:
            for number, row in enumerate(range(first, last)):
                shard.seek(int(index.frame_offset[row]))
                (home / _frame_name(number)).write_bytes(shard.read(int(index.frame_length[row])))


def frame_bounds(index: ShardIndex, sample: int) -> NDArray[np.int64]:
    """First and past-last byte of each frame within a sample's Motion-JPEG stream, [frames, 2]."""
    rows = slice(int(index.sample_frames[sample]), int(index.sample_frames[sample + 1]))
    ends = np.cumsum(index.frame_length[rows], dtype=np.int64)
    return np.stack([ends - index.frame_length[rows], ends], axis=1)


def _entries(index: ShardIndex, shards: list[int], counts: list[int]) -> Iterator[tuple[str, bytes]]:
    """(key, Motion-JPEG stream) of the first samples of each shard."""
    for shard, count in zip(shards, counts, strict=True):
        stored = webdataset.DataPipeline(
            webdataset.SimpleShardList([index.shard_url(shard)]), webdataset.tarfile_to_samples()
        )
        for entry in itertools.islice(stored, count):
            yield entry["__key__"], entry["mjpeg"]


def _decode(jpeg: io.BytesIO | Path) -> NDArray[np.uint8]:
    with Image.open(jpeg) as picture:
        return np.asarray(picture)


def _frame_name(number: int) -> str:
    return f"{number:06d}.jpg"
