"""The clip pipeline: order, sampling, range reads, DALI, augmentation, pretext transforms.

The names below load their modules when first used: importing this package must not wait for torch and DALI.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pclkd.pipeline.batch import ClipBatch
    from pclkd.pipeline.config import ClipConfig, LoaderSettings
    from pclkd.pipeline.loader import ClipLoader, clip_loader
    from pclkd.pipeline.world import World

__all__ = ["ClipBatch", "ClipConfig", "ClipLoader", "LoaderSettings", "World", "clip_loader"]

_HOME = {
    "ClipBatch": "batch",
    "ClipConfig": "config",
    "ClipLoader": "loader",
    "LoaderSettings": "config",
    "World": "world",
    "clip_loader": "loader",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
