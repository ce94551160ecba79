"""Pictures of what the network is fed: contact sheets and GIFs of augmented tuples with their pretext class."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from pclkd.pipeline.clips.recipe import ClipPlan, TupleRecipe
from pclkd.sharding.common.errors import InputError
from pclkd.sharding.common.pictures import write_gif, write_png
from pclkd.sharding.shards.index import ShardIndex
from pclkd.sharding.shards.samples import read_frames, read_notes
from pclkd.training.options import check_folder
from pclkd.training.preview.loaded import load_clips, residual_levels, rgb_levels
from pclkd.training.preview.sheets import Frame, ShownTuple, draw_moving, draw_overview, draw_sheet, shown_views
from pclkd.training.settings import RunSettings

__all__ = ["choose_samples", "write_previews"]

_CANDIDATES = 4096  # plans that are looked through for samples of every pretext class
_IN_MEMORY = 64  # samples whose clips are held at a time
_GAIN = 2.0  # residuals are small: a difference of one level is drawn as two
_WINDOW = (255, 214, 0)
_USUAL_FPS = 25.0


def write_previews(data: str | Path, out: Path, settings: RunSettings, *, samples: int, compare: bool) -> list[Path]:
    """Write `overview.png`, and `KEY.png` and `KEY.gif` for each of some samples of epoch 0.

    The samples take turns through the pretext classes, so that a few show all of them; the overview has one of each.

    Args:
        data: shard set.
        out: folder to write to; it is made.
        settings: of the run that is to be looked at.
        samples: how many, at most.
        compare: whether the stored frames stand beside the augmented ones.

    Raises:
        InputError: a shard set or samples that cannot be read, settings that do not fit, or a folder that cannot be.
    """
    check_folder(out)
    index = ShardIndex.open(data)
    recipe = settings.tuple_recipe()
    train = settings.train_samples(index)
    ids, shown_classes = choose_samples(index, train, recipe, settings.loader.crop, samples)
    written = [out / "overview.png"]
    of_overview: list[ShownTuple] = []
    for number, own in enumerate(_tuples(index, ids, settings, compare=compare)):
        out.mkdir(parents=True, exist_ok=True)
        if number < shown_classes:
            of_overview.append(own)
        if number < samples:
            written += [out / f"{own.key}.png", out / f"{own.key}.gif"]
            write_png(written[-2], draw_sheet(own))
            write_gif(written[-1], draw_moving(own), own.fps)
    if not of_overview:
        raise InputError("none of the samples can be read", remedy=f"run: shard-ucf101 verify {index.root}")
    write_png(written[0], draw_overview(of_overview, compare=compare))
    return written


def choose_samples(
    index: ShardIndex, train: NDArray[np.int64], recipe: TupleRecipe, crop: int, samples: int
) -> tuple[NDArray[np.int64], int]:
    """Samples that take turns through the pretext classes of epoch 0.

    Args:
        index: the shard set.
        train: [n] sample ids to choose from.
        recipe: what is done with them.
        crop: height and width of a clip, in pixels.
        samples: how many are wanted; there are more where that does not cover the classes.

    Returns:
        Sample ids, and how many of the first have a class of their own (without a task: all).
    """
    candidates = train[np.unique(np.linspace(0, len(train) - 1, min(_CANDIDATES, len(train))).astype(np.int64))]
    plan = _plan(index, candidates, recipe, crop)
    samples = min(samples, len(candidates))
    if plan.pretext is None:
        return candidates[np.unique(np.linspace(0, len(candidates) - 1, samples).astype(np.int64))], samples
    labels = plan.pretext.label
    # How many samples of its class stand before it: sorting by that, then by class, deals the classes out in turns.
    turn = np.zeros(len(labels), np.int64)
    for label in np.unique(labels):
        turn[labels == label] = np.arange((labels == label).sum())
    ranked = candidates[np.lexsort((labels, turn))]
    classes = len(np.unique(labels))
    return ranked[: max(samples, classes)], classes


def _plan(index: ShardIndex, ids: NDArray[np.int64], recipe: TupleRecipe, crop: int) -> ClipPlan:
    frames = index.sample_frames[ids + 1] - index.sample_frames[ids]
    return recipe.plan(0, ids, frames, index.sample_sizes(ids), crop)


def _tuples(index: ShardIndex, ids: NDArray[np.int64], settings: RunSettings, *, compare: bool) -> Iterator[ShownTuple]:
    """What the loader delivers of those samples; damaged ones are left out."""
    residual = settings.loader.modality == "residual"
    plan = _plan(index, ids, settings.tuple_recipe(), settings.loader.crop)
    views = shown_views(plan)
    for first in range(0, len(ids), _IN_MEMORY):
        some = ids[first : first + _IN_MEMORY]
        clips = dict(load_clips(index, some, settings, "rgb"))
        differences = dict(load_clips(index, some, settings, "residual")) if residual else clips
        for place in sorted(clips.keys() & differences.keys()):
            row, sample = first + place, int(some[place])
            yield ShownTuple(
                key=index.key(sample),
                row=row,
                plan=plan,
                views=views[row],
                clips=rgb_levels(clips[place]),
                residuals=residual_levels(differences[place], gain=_GAIN) if residual else None,
                originals=_originals(index, sample, plan, row, views[row]) if compare else None,
                fps=float(read_notes(index, sample)["fps"]) or _USUAL_FPS,
            )


def _originals(index: ShardIndex, sample: int, plan: ClipPlan, row: int, views: NDArray[np.int64]) -> list[list[Frame]]:
    numbers = np.unique(plan.frames[row]).tolist()
    stored = dict(zip(numbers, read_frames(index, sample, numbers), strict=True))
    augment = plan.augment
    return [
        [
            _framed(
                stored[int(number)],
                *(int(getattr(augment, name)[row, view]) for name in ("top", "left", "height", "width")),
            )
            for number in plan.frames[row, view]
        ]
        for view in views.tolist()
    ]


def _framed(frame: Frame, top: int, left: int, height: int, width: int) -> Frame:
    """The stored frame with the window that becomes the clip drawn on it."""
    picture = Image.fromarray(frame)
    ImageDraw.Draw(picture).rectangle((left, top, left + width - 1, top + height - 1), outline=_WINDOW)
    return np.asarray(picture)
