"""Sharding: UCF101 videos in, shards with an index and a manifest out.

The names below load their modules when first used: `shard-ucf101 --help` must not wait for a video decoder.
"""

import importlib
from typing import TYPE_CHECKING, Any

from pclkd.sharding.errors import InputError

if TYPE_CHECKING:
    from pclkd.sharding.index import ShardIndex
    from pclkd.sharding.manifest import Manifest
    from pclkd.sharding.pack import pack, plan_pack
    from pclkd.sharding.synth import SynthSettings, synth

__all__ = ["InputError", "Manifest", "ShardIndex", "SynthSettings", "pack", "plan_pack", "synth"]

_HOME = {
    "Manifest": "manifest",
    "ShardIndex": "index",
    "SynthSettings": "synth",
    "pack": "pack",
    "plan_pack": "pack",
    "synth": "synth",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
