"""The clip pipeline: shards in, batches of augmented clips on the device out.

    clips/       which frames a sample gives, and with which random parameters
    pretext/     what is asked about the clips, and how they are changed for it
    reading/     byte ranges from disk or an object store, checked
    pixels/      JPEG bytes -> augmented, normalised clips (DALI)
    loader/      all of it at once, a few batches ahead: the iterator

    one call            clip_loader(shards, config) -> ClipLoader, an iterator of ClipBatch
    what is delivered   ClipConfig, LoaderSettings, AugmentSettings, TupleSettings, ViewSettings, PretextSettings
    recipes             TupleRecipe, ViewsRecipe, UniformRecipe, DenseRecipe; your own is a Recipe that gives a ClipPlan
    pretext tasks       Vcp, ClipOrder, Rotation, Speed; your own is a Pretext that gives a PretextDraw
    processes           World

`__init__.pyi` lists the public names. They load their modules when first used: importing this waits for neither torch
nor DALI.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
