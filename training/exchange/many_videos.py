"""Many video files: which they are, and their clips, decoded side by side; a damaged one costs itself alone."""

import glob
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import chain, islice
from pathlib import Path

import torch

from pclkd.pipeline.world import World
from pclkd.sharding.common.errors import InputError
from pclkd.sharding.common.frame_names import frames_among
from pclkd.sharding.datasets.video_files import find_videos
from pclkd.training.exchange.video_clips import video_clips
from pclkd.training.runs.clip_form import ClipForm

__all__ = ["clips_of", "name_videos"]

Damaged = Callable[[str, str], None]


def name_videos(words: Sequence[str], more: Iterable[str] = ()) -> Iterator[str]:
    """The video files that some words mean, in their order.

    Args:
        words: files, folders (all videos below them), globs (`clips/**/*.mp4`), or "-" for the lines of `more`.
        more: names of files, one a line, as on standard input; each is taken as it comes.

    Raises:
        InputError: a folder without videos, or a glob that matches none.
    """
    lines = (line.strip() for line in more)
    return chain.from_iterable([filter(None, lines) if word == "-" else _named(word) for word in words])


def _named(word: str) -> list[str]:
    if Path(word).is_dir():
        videos = [video.path for video in find_videos(word).videos]
        if not videos and not frames_among(entry.name for entry in Path(word).iterdir()):
            raise InputError(f"no videos in {word}", remedy="give video files, or a folder that holds some")
        return videos or [word]
    if glob.has_magic(word) and not Path(word).exists():
        found = sorted(glob.glob(word, recursive=True))  # noqa: PTH207 - Path's takes no absolute pattern
        if not found:
            raise InputError(f"nothing matches {word}", remedy="give files, a folder, or another pattern")
        return [video for name in found for video in _named(name)]
    return [word]


def clips_of(videos: Iterable[str], form: ClipForm, clips: int, damaged: Damaged) -> Iterator[tuple[str, torch.Tensor]]:
    """Each video with its clips, in order; the next ones are decoded meanwhile.

    Args:
        videos: their files.
        form: of the clips.
        clips: clips a video.
        damaged: called with each file that cannot be decoded, and why.

    Yields:
        File, and its clips [clips, 3, T, H, W].

    Raises:
        InputError: a form that no video can have.
    """
    if form.crop > (form.size if isinstance(form.size, int) else min(form.size)):
        raise InputError(f"a crop of {form.crop} out of frames of {form.size}", remedy="export the run again")
    cores = World().cores
    waiting: deque[tuple[str, Future[torch.Tensor]]] = deque()
    names = iter(videos)
    with ThreadPoolExecutor(cores) as pool:
        while True:
            for name in islice(names, cores + 1 - len(waiting)):
                waiting.append((name, pool.submit(video_clips, Path(name), clips=clips, **dict(form))))
            if not waiting:
                return
            name, result = waiting.popleft()
            try:
                found = result.result()
            except InputError as error:
                damaged(name, error.problem)
                continue
            yield name, found
