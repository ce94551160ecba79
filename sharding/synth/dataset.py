"""The embedded data set: rendered actions in the folder layout and with the split lists of UCF101.

The class is told by motion alone. Clips of one group share landscape and object, across all classes, and whole groups
go to train or to test, as in the real data set.
"""

import functools
import io
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path, PurePosixPath

import av
import numpy as np
from pydantic import Field

from pclkd.sharding.common.errors import InputError
from pclkd.sharding.common.files import write_text
from pclkd.sharding.common.processes import available_cpus, run_tasks
from pclkd.sharding.common.settings import Settings
from pclkd.sharding.datasets.names import ucf_group
from pclkd.sharding.synth.actions import ACTIONS, draw_track
from pclkd.sharding.synth.render import render_clip
from pclkd.sharding.synth.scene import Scene, draw_scene

__all__ = ["LISTS_FOLDER", "VIDEOS_FOLDER", "SynthSettings", "render_dataset"]

VIDEOS_FOLDER = "UCF-101"
LISTS_FOLDER = "ucfTrainTestlist"
_STAGING = ".synth.part"
_FRAMES_PER_SECOND = 25
_KEY_FRAME_EVERY = 12  # as in the originals tagged xvid
_QUANTISER = 3


class SynthSettings(Settings):
    """What to render."""

    classes: int = Field(default=8, ge=2, le=len(ACTIONS))
    """Number of actions."""
    groups: int = Field(default=16, ge=3, le=99)
    """Landscapes and objects."""
    clips: int = Field(default=4, ge=1, le=99)
    """Videos per class and group."""
    frames: int | None = Field(default=None, ge=1, le=10_000)
    """Frames of every video; none: 96 to 120, drawn for each, enough for a 64-frame window with a remote clip."""
    seed: int = Field(default=0, ge=0, le=2**63)
    """The same seed gives the same bytes."""
    height: int = Field(default=240, ge=32, le=2048, multiple_of=2)
    """Pixels, an even number."""
    width: int = Field(default=320, ge=32, le=2048, multiple_of=2)
    """Pixels, an even number."""

    @property
    def names(self) -> tuple[str, ...]:
        """The class names, sorted as in classInd.txt."""
        return tuple(sorted(list(ACTIONS)[: self.classes]))


@dataclass(frozen=True)
class _Clip:
    """One video to render; group and clip count from 1."""

    action: str
    group: int
    clip: int
    settings: SynthSettings
    folder: Path

    @property
    def name(self) -> str:
        return f"{self.action}/v_{self.action}_g{self.group:02d}_c{self.clip:02d}.avi"


def render_dataset(
    out: str | Path,
    settings: SynthSettings,
    *,
    workers: int | None = None,
    step: Callable[[str], None] = lambda _: None,
) -> int:
    """Render the data set into `out/UCF-101` and `out/ucfTrainTestlist`; return the number of videos.

    Both folders appear only when all videos are there, the lists last. `step` is called with the name of each video.

    Raises:
        InputError: one of the two folders exists already, or a worker process died.
    """
    out = Path(out)
    for name in (VIDEOS_FOLDER, LISTS_FOLDER):
        if (out / name).exists():
            raise InputError(f"{out / name} exists already", remedy="give another folder or remove it first")
    if out.exists() and not out.is_dir():
        raise InputError(f"{out} is not a folder", remedy="give another place for the videos")
    staging = out / _STAGING
    shutil.rmtree(staging, ignore_errors=True)
    try:
        for name in settings.names:
            (staging / VIDEOS_FOLDER / name).mkdir(parents=True)
        clips = [
            _Clip(name, group, clip, settings, staging / VIDEOS_FOLDER)
            for group in range(1, settings.groups + 1)
            for name in settings.names
            for clip in range(1, settings.clips + 1)
        ]
        run_tasks(_render, clips, workers or available_cpus(), step)
        (staging / LISTS_FOLDER).mkdir()
        _write_lists(staging / LISTS_FOLDER, settings, sorted(clip.name for clip in clips))
        for name in (VIDEOS_FOLDER, LISTS_FOLDER):
            (staging / name).rename(out / name)
    except OSError as error:
        if error.filename is None:
            error.filename = str(out)  # a full disk is told without its place
        raise
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return len(clips)


@functools.lru_cache(maxsize=2)
def _scene(seed: int, group: int, height: int, width: int) -> Scene:
    return draw_scene(height, width, np.random.Generator(np.random.Philox(np.random.SeedSequence([seed, group]))))


def _render(clip: _Clip, done: Callable[[str], None]) -> None:
    settings = clip.settings
    entropy = [settings.seed, clip.group, clip.clip, list(ACTIONS).index(clip.action)]
    rng = np.random.Generator(np.random.Philox(np.random.SeedSequence(entropy)))
    frames = settings.frames or int(rng.integers(96, 121))
    track = draw_track(clip.action, frames, rng)
    scene = _scene(settings.seed, clip.group, settings.height, settings.width)
    gain = float(rng.uniform(0.85, 1.1))
    # In memory first: the muxer would not tell of a full disk in a way that can be acted on.
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="avi", options={"fflags": "+bitexact"}) as container:
        stream = container.add_stream("mpeg4", rate=Fraction(_FRAMES_PER_SECOND))
        stream.width, stream.height, stream.pix_fmt = settings.width, settings.height, "yuv420p"
        stream.gop_size = _KEY_FRAME_EVERY
        # Versions and thread timing must not reach the file: the same seed gives the same bytes.
        stream.thread_count = 1
        stream.options = {"flags": "+bitexact", "qmin": str(_QUANTISER), "qmax": str(_QUANTISER)}
        for pixels in render_clip(scene, track, settings.height, settings.width, gain):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode())
    (clip.folder / clip.name).write_bytes(buffer.getbuffer())
    done(clip.name)


def _write_lists(folder: Path, settings: SynthSettings, videos: list[str]) -> None:
    """Write classInd.txt and three splits that hold out different groups, about a quarter to a third each."""
    labels = {name: label for label, name in enumerate(settings.names, start=1)}
    write_text(folder / "classInd.txt", "".join(f"{label} {name}\n" for name, label in labels.items()))
    held_out = max(1, min(settings.groups // 3, round(0.28 * settings.groups)))
    for split in (1, 2, 3):
        test_groups = range((split - 1) * held_out + 1, split * held_out + 1)
        train, test = [], []
        for video in videos:
            action, _, _ = video.partition("/")
            group = ucf_group(PurePosixPath(video).stem)
            if group in test_groups:
                test.append(f"{video}\n")
            else:
                train.append(f"{video} {labels[action]}\n")
        write_text(folder / f"trainlist{split:02d}.txt", "".join(train))
        write_text(folder / f"testlist{split:02d}.txt", "".join(test))
