"""Run as a program in a fresh process: what it takes to open a shard set, and to get a first batch out of it.

Prints one line of JSON. Importing libraries is not part of the times, but of the memory.

    python -m pclkd.benchmarks.growth.probe SHARDS BATCH_SIZE FRAMES CROP
"""

import json
import sys
import time

import psutil  # type: ignore[import-untyped]

__all__ = ["main"]


def resident_mib() -> float:
    """Memory that this process has in RAM, files that it mapped and touched included."""
    return float(psutil.Process().memory_info().rss) / 2**20


def main() -> None:
    """Open, deliver, tell."""
    root, batch_size, frames, crop = sys.argv[1], *map(int, sys.argv[2:5])
    from pclkd.sharding.shards.index import ShardIndex

    began = time.perf_counter()
    index = ShardIndex.open(root)
    told = {"videos": len(index), "open_s": time.perf_counter() - began, "open_mib": resident_mib()}

    import torch

    from pclkd.benchmarks.measuring.clip_shape import ClipShape
    from pclkd.pipeline.opening import clip_loader
    from pclkd.pipeline.world import World

    torch.set_num_threads(1)
    imported = resident_mib()
    began = time.perf_counter()
    config, split = ClipShape(batch_size, frames, crop).config, next(iter(map(int, index.manifest.splits)))
    with clip_loader(index, config, World(), device=torch.device("cpu"), split=split) as loader:
        batch = next(iter(loader.epoch(0)))
        told["first_batch_s"] = time.perf_counter() - began
        told["first_batch_mib"] = resident_mib() - imported
        told["samples"] = batch.valid
    print(json.dumps(told))


if __name__ == "__main__":
    main()
