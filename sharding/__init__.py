"""Sharding: videos of any action data set in, shards with an index and a manifest out.

The names below load their modules when first used: `shard-ucf101 --help` must not wait for a video decoder.
No function is named like its module: once the module is loaded it would hide the function.
"""

import importlib
from typing import TYPE_CHECKING, Any

from pclkd.sharding.errors import InputError

if TYPE_CHECKING:
    from pclkd.sharding.datasets import read_dataset
    from pclkd.sharding.index import ShardIndex
    from pclkd.sharding.manifest import Manifest
    from pclkd.sharding.pack import pack_videos, plan_packing
    from pclkd.sharding.synth import SynthSettings, render_dataset
    from pclkd.sharding.videos import Dataset

__all__ = [
    "Dataset",
    "InputError",
    "Manifest",
    "ShardIndex",
    "SynthSettings",
    "pack_videos",
    "plan_packing",
    "read_dataset",
    "render_dataset",
]

_HOME = {
    "Dataset": "videos",
    "Manifest": "manifest",
    "ShardIndex": "index",
    "SynthSettings": "synth",
    "pack_videos": "pack",
    "plan_packing": "pack",
    "read_dataset": "datasets",
    "render_dataset": "synth",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
