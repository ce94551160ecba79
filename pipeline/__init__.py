"""The clip pipeline: order, sampling, range reads, DALI, augmentation, pretext tasks.

    one call            clip_loader(shards, config) -> ClipLoader, an iterator of ClipBatch
    what is delivered   ClipConfig, LoaderSettings, AugmentSettings, TupleSettings, ViewSettings, PretextSettings
    recipes             TupleRecipe, ViewsRecipe, UniformRecipe, DenseRecipe; your own is a Recipe that gives a ClipPlan
    pretext tasks       Vcp, ClipOrder, Rotation, Speed; your own is a Pretext that gives a PretextDraw
    processes           World

The names load their modules when first used: importing this package must not wait for torch and DALI.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pclkd.pipeline.augment import AugmentSettings, ClipAugment
    from pclkd.pipeline.batch import ClipBatch
    from pclkd.pipeline.clip_order import ClipOrder
    from pclkd.pipeline.config import ClipConfig, LoaderSettings
    from pclkd.pipeline.covering_recipe import DenseRecipe, UniformRecipe
    from pclkd.pipeline.loader import ClipLoader
    from pclkd.pipeline.opening import clip_loader
    from pclkd.pipeline.pretext import Pretext, PretextDraw
    from pclkd.pipeline.pretext_settings import PretextSettings
    from pclkd.pipeline.recipe import ClipPlan, Recipe, TupleRecipe, ViewsRecipe
    from pclkd.pipeline.rotation import Rotation
    from pclkd.pipeline.sampling import TupleSettings, ViewSettings
    from pclkd.pipeline.speed import Speed
    from pclkd.pipeline.vcp import Vcp
    from pclkd.pipeline.world import World

__all__ = [
    "AugmentSettings",
    "ClipAugment",
    "ClipBatch",
    "ClipConfig",
    "ClipLoader",
    "ClipOrder",
    "ClipPlan",
    "DenseRecipe",
    "LoaderSettings",
    "Pretext",
    "PretextDraw",
    "PretextSettings",
    "Recipe",
    "Rotation",
    "Speed",
    "TupleRecipe",
    "TupleSettings",
    "UniformRecipe",
    "Vcp",
    "ViewSettings",
    "ViewsRecipe",
    "World",
    "clip_loader",
]

_HOME = {
    "augment": ("AugmentSettings", "ClipAugment"),
    "batch": ("ClipBatch",),
    "clip_order": ("ClipOrder",),
    "config": ("ClipConfig", "LoaderSettings"),
    "covering_recipe": ("DenseRecipe", "UniformRecipe"),
    "loader": ("ClipLoader",),
    "opening": ("clip_loader",),
    "pretext": ("Pretext", "PretextDraw"),
    "pretext_settings": ("PretextSettings",),
    "recipe": ("ClipPlan", "Recipe", "TupleRecipe", "ViewsRecipe"),
    "rotation": ("Rotation",),
    "sampling": ("TupleSettings", "ViewSettings"),
    "speed": ("Speed",),
    "vcp": ("Vcp",),
    "world": ("World",),
}


def __getattr__(name: str) -> Any:
    for module, names in _HOME.items():
        if name in names:
            return getattr(importlib.import_module(f"{__name__}.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
