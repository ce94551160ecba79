"""What the sections of `bench-throughput all` work on: what is given, or videos rendered and packed."""

from pathlib import Path

from pclkd.benchmarks.growth.large_set import grow_shard_set
from pclkd.benchmarks.measuring.places import absolute
from pclkd.benchmarks.suite.sections import Material
from pclkd.sharding.common.errors import InputError
from pclkd.sharding.common.processes import available_cpus
from pclkd.sharding.packing.pack import pack_videos, plan_packing
from pclkd.sharding.shards.index import ShardIndex
from pclkd.sharding.synth.dataset import LISTS_FOLDER, VIDEOS_FOLDER, SynthSettings, render_dataset

__all__ = ["gather_material"]

_GPU_VIDEOS = 1100  # three quarters of them are for training: 50 steps of 16


_MANY_CORES = 8


def gather_material(data: str | Path | None, videos: Path | None, splits: Path | None, scratch: Path) -> Material:
    """What the sections work on; without `data` 64 videos are rendered and packed, 256 where there are many cores.

    Args:
        data: a shard set, or None.
        videos: the originals that it was packed from, or None.
        splits: their lists, or None.
        scratch: an empty folder.

    Raises:
        InputError: data that cannot be read, originals without their shard set, or lists without originals.
    """
    import torch

    gpu, cores = torch.cuda.is_available(), available_cpus()
    if splits is not None and videos is None:
        raise InputError(f"--splits {splits} without the videos that it lists", remedy="give --videos as well")
    if data is not None:
        ShardIndex.open(data)  # whatever is wrong with it is told before minutes of measuring
        return Material(absolute(data), absolute(data), _absolute(videos), _absolute(splits), cores, gpu)
    if videos is not None:
        raise InputError("--videos without the shards that were packed from it", remedy="give --data as well")
    settings = SynthSettings(classes=8, groups=4, clips=8 if cores >= _MANY_CORES else 2)
    count = render_dataset(scratch / "rendered", settings)
    videos, splits = scratch / "rendered" / VIDEOS_FOLDER, scratch / "rendered" / LISTS_FOLDER
    data = many = scratch / "shards"
    pack_videos(plan_packing(videos, splits), data, workers=cores)
    if gpu:
        many = scratch / "many"
        grow_shard_set(ShardIndex.open(data), many, _GPU_VIDEOS)
    return Material(data, many, videos, splits, cores, gpu, count)


def _absolute(path: Path | None) -> Path | None:
    return None if path is None else path.resolve()
