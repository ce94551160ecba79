"""Two sets joined into one: the frames are copied, nothing is decoded."""

import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path

import numpy as np

from pclkd.sharding.common import storage
from pclkd.sharding.common.console import Step
from pclkd.sharding.common.errors import InputError
from pclkd.sharding.datasets.dataset import Dataset, Part, Span, Video
from pclkd.sharding.packing.lock import locked
from pclkd.sharding.packing.pack import PackReport, checked_place, running
from pclkd.sharding.packing.run import PackRun
from pclkd.sharding.packing.stored import StoredVideo, stored_videos
from pclkd.sharding.shards.index import ShardIndex
from pclkd.sharding.shards.manifest import MANIFEST_NAME
from pclkd.sharding.shards.samples import read_notes

__all__ = ["merge_sets"]

_READERS = 16  # of notes, which lie far apart in the shards
_PARTS: dict[int, Part] = {1: "train", 2: "test"}


def merge_sets(
    first: str | Path,
    second: str | Path,
    out: str | Path,
    *,
    workers: int | None = None,
    step: Step = lambda _name, _failed=False, /: None,
) -> PackReport:
    """Join two finished sets, folders or URLs, into a third: as if their videos had been packed at once.

    Classes of one name are one class, and a video keeps its parts in the splits of its set; splits of one number are
    one split. A video that both hold with the same frames is taken once.

    Args:
        first: a set.
        second: another one, made with the same settings.
        out: where the new one goes; it must not hold a set.
        workers: processes; as many as there are processors when None.
        step: called with the name of each video that is through.

    Raises:
        InputError: settings that differ, one key for two videos, a damaged video, or `out` holds a set already.
    """
    started = time.monotonic()
    out = checked_place(out)
    if storage.exists(storage.join(out, MANIFEST_NAME)):
        raise InputError(f"{out} holds a finished shard set already", remedy="give another place")
    sets = (ShardIndex.open(first), ShardIndex.open(second))
    _refuse_other_settings(*sets)
    stored: dict[str, StoredVideo] = {}
    videos: dict[str, Video] = {}
    classes = _joined(sets[0].classes, sets[1].classes)
    for index in sets:
        found = stored_videos(index, {})
        for video in _videos(index, classes, found):
            if video.key in videos:
                _refuse_another(video, videos[video.key], found[video.key], stored, sets)
            else:
                videos[video.key], stored[video.key] = video, found[video.key]
    manifests = [index.manifest for index in sets]
    dataset = Dataset(
        kind=_one_or_both(manifests[0].dataset, manifests[1].dataset),
        source=_one_or_both(manifests[0].source, manifests[1].source),
        classes=classes,
        numbers=tuple(sorted({int(number) for manifest in manifests for number in manifest.splits})),
        videos=tuple(sorted(videos.values(), key=lambda video: video.relative)),
        missing=_without(videos.values(), [name for manifest in manifests for name in manifest.missing]),
        unlisted=tuple(sorted({name for manifest in manifests for name in manifest.unlisted})),
        other_files=dict(sum((Counter(manifest.other_files) for manifest in manifests), Counter())),
    )
    left_out = {video.video: video for manifest in manifests for video in manifest.quarantined}
    kept_out = [left_out[name] for name in _without(videos.values(), list(left_out))]
    with locked(out) as check:
        run = PackRun(dataset, manifests[0].settings, out, stored=stored, left_out=kept_out)
        with running(run, "local", workers, None, None) as engine:
            manifest, results, _ = run.make(engine, step, check, overwrite=False)
    return PackReport.of(results, started, manifest=manifest)


def _refuse_other_settings(first: ShardIndex, second: ShardIndex) -> None:
    one, other = asdict(first.manifest.settings), asdict(second.manifest.settings)
    if differ := [f"{name} {one[name]} and {other[name]}" for name in one if one[name] != other[name]]:
        raise InputError(
            f"{first.root} and {second.root} were made with other settings: {', '.join(differ)}",
            remedy="pack one of them again with the settings of the other",
        )


def _joined(first: tuple[str, ...], second: tuple[str, ...]) -> tuple[str, ...]:
    """The classes of both: in the order of the alphabet where both are, else those of the first before the others."""
    both = tuple(dict.fromkeys((*first, *second)))
    alphabet = all(list(names) == sorted(names) for names in (first, second))
    return tuple(sorted(both)) if alphabet else both


def _videos(index: ShardIndex, classes: Sequence[str], stored: dict[str, StoredVideo]) -> Iterator[Video]:
    numbers = [int(number) for number in index.manifest.splits]
    labels = {name: label for label, name in enumerate(classes)}
    with ThreadPoolExecutor(_READERS) as pool:
        for sample, notes in enumerate(pool.map(lambda sample: read_notes(index, sample), range(len(index)))):
            key = index.key(sample)
            label = int(index.sample_label[sample])
            codes = index.sample_split[sample].tolist()
            yield Video(
                path=stored[key].url,  # what it is made from, and by that told from a later version
                relative=notes["source"],
                key=key,
                label=label if label < 0 else labels[index.classes[label]],
                group=int(index.sample_group[sample]),
                parts={number: _PARTS[code] for number, code in zip(numbers, codes, strict=True) if code},
                span=Span(**notes["span"]) if "span" in notes else None,
            )


def _refuse_another(
    video: Video, there: Video, found: StoredVideo, stored: dict[str, StoredVideo], sets: tuple[ShardIndex, ShardIndex]
) -> None:
    same = np.array_equal(found.frame_crc32, stored[video.key].frame_crc32)
    if not same or (video.label, video.group, video.parts) != (there.label, there.group, there.parts):
        what = "in other classes, groups or parts" if same else "with other frames"
        raise InputError(
            f"{sets[0].root} and {sets[1].root} both hold a video {video.key}, {what}",
            remedy="rename one of the files and pack its set again",
        )


def _one_or_both(first: str, second: str) -> str:
    return first if first == second else f"{first}+{second}"


def _without(videos: Iterable[Video], names: Sequence[str]) -> tuple[str, ...]:
    there = {name for video in videos for name in (video.relative, video.shown)}
    return tuple(sorted(set(names) - there))
