"""Frames: the shards that all else reads, whether a GPU's pixels are a CPU's, and how many come a second."""

import dataclasses
from contextlib import ExitStack, closing
from itertools import islice

import numpy as np
import torch
from numpy.typing import NDArray

from pclkd.benchmarks.gpu.bench import Bench
from pclkd.benchmarks.gpu.rows import LeftOutError, Value
from pclkd.benchmarks.growth.large_set import grow_shard_set
from pclkd.benchmarks.loading.benchmark import decode_only, in_memory, range_reads
from pclkd.benchmarks.loading.case import LoadCase, Place, RecipeName
from pclkd.benchmarks.measuring.clip_shape import ClipShape, synchronise
from pclkd.benchmarks.measuring.places import absolute
from pclkd.benchmarks.operators.parity_page import frames_of
from pclkd.pipeline.config import Operators
from pclkd.pipeline.opening import clip_loader
from pclkd.pipeline.pixels.colours import MEAN, STD
from pclkd.pipeline.pixels.dali import FrameDecoder
from pclkd.pipeline.pixels.finish import ClipFinish
from pclkd.pipeline.pixels.kernel_check import kernels_apart
from pclkd.pipeline.pixels.parity import OPERATORS, ClipJpegs, Parity, Way, apart, decoded, reference
from pclkd.pipeline.world import World
from pclkd.sharding.common.pictures import contact_sheet, write_png
from pclkd.sharding.shards.index import ShardIndex

__all__ = ["data", "loading", "parity"]

_PLACES: tuple[Place, ...] = ("cpu", "mixed")
_RECIPES: tuple[RecipeName, ...] = ("plain", "full")
_OPERATORS: tuple[Operators, ...] = ("dali", "kernels")
_TYPES = (torch.float32, torch.bfloat16, torch.float16)
_AMPLIFIED = 8
_SHOWN = 6  # operators, the furthest apart
_REPEATS = 6
Levels = NDArray[np.float64]


def data(bench: Bench) -> None:
    """A shard set large enough to train on: the given one, or rendered videos over and over."""
    bench.take("shards", _shards)


def _shards(bench: Bench) -> dict[str, Value]:
    if bench.given is not None:
        index = ShardIndex.open(bench.given)
        return {"folder": absolute(bench.given), "videos": float(len(index)), "given": "true"}
    from pclkd.sharding.packing.pack import pack_videos, plan_packing
    from pclkd.sharding.synth.dataset import LISTS_FOLDER, VIDEOS_FOLDER, SynthSettings, render_dataset

    (classes, groups, clips), (source, stored) = bench.sizes.videos, bench.sizes.stored
    few, many = bench.scratch / "few", bench.scratch / "many"
    settings = SynthSettings(classes=classes, groups=groups, clips=clips, height=source[0], width=source[1])
    videos = render_dataset(bench.scratch, settings)
    plan = plan_packing(bench.scratch / VIDEOS_FOLDER, bench.scratch / LISTS_FOLDER, height=stored[0], width=stored[1])
    pack_videos(plan, few, workers=World().cores)
    index = ShardIndex.open(few)
    share = len(index.split_samples(1, "train")) / len(index)
    grow_shard_set(index, many, max(len(index), round(bench.sizes.training / share)))
    return {"folder": str(many), "videos": float(len(ShardIndex.open(many))), "rendered": float(videos)}


def parity(bench: Bench) -> None:
    """Every operator and whole clips, on the device beside the CPU; repeated decoding beside itself."""
    take = bench.take
    differences: dict[str, list[NDArray[np.uint8]]] = {}
    for place in _PLACES:
        for name in OPERATORS:
            take(f"operator_{name.replace(' ', '_')}_{place}", _operator, name, place, differences)
    take("picture_operators", _show, "parity-operators.png", differences, "operators")
    for dtype in _TYPES:
        take(f"kernels_{str(dtype).removeprefix('torch.')}", _kernels, dtype)
    clips: dict[str, list[NDArray[np.uint8]]] = {}
    for place in _PLACES:
        take(f"clips_{place}", _clips, place, clips)
        take(f"repeats_{place}", _repeats, place)
    take("picture_clips", _show, "parity-clips.png", clips, "whole clips")


def _here(bench: Bench, place: Place) -> Place:
    """Where that can be decoded here; a dry run walks the same way on a CPU."""
    if bench.device.type == "cuda":
        return place
    if place == "mixed" and not bench.dry:
        raise LeftOutError("there is no GPU to decode on")
    return "cpu"


def _frames(bench: Bench) -> tuple[ClipJpegs, tuple[int, int], int]:
    index = ShardIndex.open(bench.data)
    return frames_of(index)[:8], index.smallest_frame, bench.sizes.shape.fitted(index).side


def _operator(
    bench: Bench, name: str, place: Place, differences: dict[str, list[NDArray[np.uint8]]]
) -> dict[str, Value]:
    """In levels; beside DALI's operators on the CPU, and beside torchvision's."""
    operator, (clips, size, crop) = OPERATORS[name], _frames(bench)
    ours = decoded(clips, size, crop, Way("graph", _here(bench, place), bench.device), operator)
    cpu = decoded(clips, size, crop, Way("graph"), operator)
    found = apart(ours, cpu)
    base = 255 * np.array(MEAN) if operator.normalised else 0
    differences[f"{name}, {place}: {found.mean:.2f} levels in the mean, {found.largest:.0f} at most"] = _side_by_side(
        ours + base, cpu + base
    )
    return _told(found) | _told(apart(ours, reference(clips, size, crop, operator)), "torchvision_")


def _kernels(bench: Bench, dtype: torch.dtype) -> dict[str, Value]:
    """In levels; all augmentation and VCP's transforms, beside the steps on a CPU, for clips in that type."""
    return {f"{name}_levels": value for name, value in kernels_apart(bench.device, dtype).items()}


def _told(found: Parity, prefix: str = "") -> dict[str, Value]:
    return {f"{prefix}{name}_levels": value for name, value in dataclasses.asdict(found).items()}


def _side_by_side(ours: Levels, cpu: Levels) -> list[NDArray[np.uint8]]:
    """The worst frame [H, W, 3] of [N, T, H, W, 3] both ways, and the difference."""
    error = np.abs(ours - cpu).mean(axis=(2, 3, 4))
    worst = np.unravel_index(int(error.argmax()), error.shape)
    frames = (cpu[worst], ours[worst], 255 - _AMPLIFIED * np.abs(ours[worst] - cpu[worst]))
    return [np.rint(frame).clip(0, 255).astype(np.uint8) for frame in frames]


def _show(bench: Bench, file: str, rows: dict[str, list[NDArray[np.uint8]]], what: str) -> dict[str, Value]:
    if not rows:
        raise LeftOutError("there is nothing to show")
    worst = sorted(rows, key=lambda name: float(rows[name][-1].mean()))[:_SHOWN]  # the darkest differences first
    captions = ["on the CPU", "here", f"difference x {_AMPLIFIED}"]
    sheet = contact_sheet(
        [rows[name] for name in worst],
        worst,
        frame_captions=[captions] * len(worst),
        title=f"The worst {what}: {bench.device.type} beside the CPU",
    )
    write_png(bench.out / file, sheet)
    return {"file": file}


def _clips(bench: Bench, place: Place, shown: dict[str, list[NDArray[np.uint8]]]) -> dict[str, Value]:
    """Whole batches with all augmentation, normalised RGB, in levels; each loader opened with other threads."""
    index = ShardIndex.open(bench.data)
    shape = ClipShape(min(8, bench.sizes.shape.batch_size), bench.sizes.shape.frames, bench.sizes.shape.side)
    shape, errors, worst = shape.fitted(index), [], -1.0
    caption, pictures = "", []
    samples = np.arange(2 * shape.batch_size) % len(index)
    std, mean = 255 * np.array(STD), 255 * np.array(MEAN)

    def batches(device: torch.device, decode: Place, threads: int) -> list[Levels]:
        with (
            clip_loader(
                index,
                shape.config,
                World(),
                samples=samples,
                device=device,
                decode=decode,
                threads=threads,
                modality="rgb",
            ) as loader,
            closing(loader.epoch(0)) as epoch,  # type: ignore[type-var]
        ):
            # [B, V, C, T, H, W] -> [B * V, T, H, W, C]
            found = [
                batch.clips.flatten(0, 1).permute(0, 2, 3, 4, 1).double().cpu().numpy() for batch in islice(epoch, 2)
            ]
        return [batch * std + mean for batch in found]

    here, there = batches(bench.device, _here(bench, place), 2), batches(torch.device("cpu"), "cpu", 1)
    for ours, cpu in zip(here, there, strict=True):
        errors.append(apart(ours, cpu))
        by_clip = np.abs(ours - cpu).mean(axis=(1, 2, 3, 4))
        if by_clip.max() > worst:
            worst = float(by_clip.max())
            clip = slice(int(by_clip.argmax()), int(by_clip.argmax()) + 1)
            caption = f"decode={place}: the worst clip, {worst:.2f} levels in the mean"
            pictures = _side_by_side(ours[clip], cpu[clip])
    shown[caption] = pictures
    mean_levels = float(np.mean([error.mean for error in errors]))
    p99, largest = (max(getattr(error, name) for error in errors) for name in ("p99", "largest"))
    return _told(Parity(mean_levels, p99, largest)) | {"worst_clip_levels": worst}


def _repeats(bench: Bench, place: Place) -> dict[str, Value]:
    """One batch over and over, two of them under way at once: what is read too early differs."""
    place = _here(bench, place)
    case = LoadCase.choose(bench.data, "full", bench.sizes.shape, bench.sizes.shape.batch_size, 2)
    (batch,) = in_memory(case)
    decoder = FrameDecoder(case.graph("graph", place))
    try:
        first = decoder.decode(batch.jpegs, batch.plan.augment).clone()
        under_way = [decoder.begin(batch.jpegs, batch.plan.augment) for _ in range(2)]
        differing = 0
        for _ in range(_REPEATS):
            decoding = under_way.pop(0)
            decoder.wait(decoding)
            under_way.append(decoder.begin(batch.jpegs, batch.plan.augment))
            differing += int((decoder.finish(decoding) != first).sum())
    finally:
        decoder.close()
    return {"differing_values": float(differing), "repeats": float(_REPEATS)}


def loading(bench: Bench) -> None:
    """Frames a second by place and threads, and what bounds them."""
    take, most = bench.take, bench.sizes.threads[-1]
    for recipe in reversed(_RECIPES):
        for place in reversed(_PLACES):
            for threads in reversed(bench.sizes.threads) if recipe == "full" else (most,):
                take(f"{recipe}_{place}_{threads}_threads", _delivered, recipe, place, threads)
    for operators in _OPERATORS:
        take(f"operators_{operators}", _delivered, "full", "mixed", most, operators)
    take("kernels_alone", _kernels_alone)
    for place in _PLACES:
        take(f"decode_only_{place}", _decoded, place)
    take("range_reads", _read)


def _case(bench: Bench, recipe: RecipeName, threads: int) -> LoadCase:
    shape = bench.sizes.shape
    batches = max(2, threads * 3 // 2)  # some seconds' work: a pass begins with an idle loader
    return LoadCase.choose(bench.data, recipe, shape, batches * shape.batch_size, threads)


def _delivered(
    bench: Bench, recipe: RecipeName, place: Place, threads: int, operators: Operators = "auto"
) -> dict[str, Value]:
    place = _here(bench, place)
    case = _case(bench, recipe, threads)
    with case.loader(place, operators=operators if bench.device.type == "cuda" else "auto") as loader:
        rate = bench.rate(
            lambda: case.drain(batch.clips for batch in loader.epoch(0)), "frames_per_s", case.shape.frames, rounds=2
        )
        found = loader.calibrate()
    return rate | {
        "memory/decoder_gib": found.gpu_mib / 1024,
        "threads": float(threads),
        "operators": found.operators,
        "operators_reason": found.operators_reason,
    }


def _kernels_alone(bench: Bench) -> dict[str, Value]:
    """Batches of frames that lie decoded on the device: what the kernels would bound a loader to."""
    from pclkd.pipeline.pixels.kernels import KernelColours

    case = _case(bench, "plain" if bench.dry else "full", 1)
    batch, side = in_memory(case)[0], case.shape.side
    frames = len(batch.jpegs)
    levels = torch.randint(0, 256, (frames, side, side, 3), dtype=torch.uint8, device=bench.device)
    kernels, finish = KernelColours((side, side)), ClipFinish(batch.plan.pretext, case.residual)

    def work() -> float:
        kernels.apply(levels, batch.plan.augment, finish)
        synchronise(bench.device)
        return float(frames)

    return bench.rate(work, "frames_per_s", rounds=1 if bench.dry else 3)


def _decoded(bench: Bench, place: Place) -> dict[str, Value]:
    place = _here(bench, place)
    case = _case(bench, "plain", bench.sizes.threads[-1])
    return bench.rate(decode_only(case, in_memory(case), place), "frames_per_s", case.shape.frames)


def _read(bench: Bench) -> dict[str, Value]:
    case = _case(bench, "plain", bench.sizes.threads[-1])
    with ExitStack() as stack:
        return bench.rate(range_reads(stack, case), "frames_per_s", case.shape.frames)
