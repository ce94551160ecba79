"""What a teacher says of every training video, on disk: for teachers that take longer than the student.

A video's features are the mean over clips that are spread over it, centre crop, no colours, no flip, no pretext
transform: fixed views, so that they are computed once and read in every epoch. The price is that the teacher no longer
sees the student's moment: it tells what the video is, not what this clip of it shows, and all clips of a sample,
changed by the pretext task or not, are to say the same. Sources: Shen and Xing, arXiv 2112.01528 (stored soft labels);
Beyer et al., arXiv 2106.05237 (fixed teachers are worse than those that see what the student sees).
"""

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from pclkd.pipeline.clips.covering import UniformRecipe
from pclkd.pipeline.pretext.base import TUPLE_VIEWS
from pclkd.pipeline.world import World
from pclkd.sharding.common.errors import InputError
from pclkd.sharding.common.files import write_text
from pclkd.sharding.shards.index import ShardIndex
from pclkd.training.compute.precision import Precision
from pclkd.training.models.base import Backbone
from pclkd.training.models.memory_layout import placed
from pclkd.training.models.pcl_model import PclModel, PclOutput
from pclkd.training.objective.settings import KdSettings
from pclkd.training.runs.teachers import Teacher, views_of
from pclkd.training.settings import RunSettings

__all__ = ["RememberedFeatures", "check_cache", "remembered"]

_CLIPS = 4  # of a video that its features are the mean of
_ON_DEVICE = 2**30  # bytes of features that are kept beside the networks; more is read from the file in every step


@dataclass
class RememberedFeatures:
    """Features [rows, F] float32 of the training videos, memory-mapped.

    Attributes:
        rows: by position within the training part.
    """

    rows: torch.Tensor

    def __call__(self, sample_index: torch.Tensor) -> PclOutput:
        """What the teacher says of the videos at [B] positions: the same of each of their clips."""
        device = sample_index.device
        if self.rows.device != device and self.rows.numel() * self.rows.element_size() <= _ON_DEVICE:
            self.rows = self.rows.to(device)
        found = self.rows[sample_index.to(self.rows.device)].to(device)
        nothing = found.new_zeros(len(found), 0)
        return PclOutput(found[:, None].expand(-1, TUPLE_VIEWS, -1), nothing, nothing, nothing)


class _Silent(Backbone):
    """Stands for a network that is not asked any more."""

    foreign = True

    def __init__(self, feature_dim: int) -> None:
        super().__init__()
        self.feature_dim = feature_dim

    def forward(self, clips: torch.Tensor) -> torch.Tensor:
        """Noughts: a step is made ready with it all the same."""
        return clips.new_zeros(len(clips), self.feature_dim)


def check_cache(kd: KdSettings, world: World, folder: Path, teachers: Sequence[Teacher]) -> None:
    """Refuse terms that features of whole videos cannot feed.

    Raises:
        InputError: with the remedy.
    """
    wrong = [f"kd.{term}_weight" for term in ("pretext", "contrast", "grid") if getattr(kd, f"{term}_weight") > 0]
    if wrong:
        raise InputError(
            f"--teacher-cache keeps features of whole videos, which {' and '.join(wrong)} cannot learn from",
            remedy=" ".join(f"--set {name}=0" for name in wrong) + ", or leave out --teacher-cache",
        )
    if not teachers:
        raise InputError("--teacher-cache without a --teacher", remedy="leave it out: past selves change every epoch")
    if world.size > 1 and not folder.is_dir():
        raise InputError(
            f"--teacher-cache {folder} is not there, and {world.size} processes would each fill it",
            remedy="fill it first by one process: the same command without torchrun, with --max-steps 1",
        )


def remembered(
    teacher: Teacher,
    folder: Path,
    index: ShardIndex,
    samples: NDArray[np.int64],
    settings: RunSettings,
    device: torch.device,
) -> Teacher:
    """A teacher that answers from disk; what it says is computed now where it is not there yet.

    Args:
        teacher: as it was loaded.
        folder: of the cache; the longest unused files go where `kd.teacher_cache_gib` would be passed.
        index: the shard set.
        samples: [rows] ids of the training videos.
        settings: of the student's run.
        device: where the teacher runs.

    Raises:
        InputError: the features of one teacher alone would pass `kd.teacher_cache_gib`.
    """
    dim = teacher.model.base_network.feature_dim
    told = _told(teacher, index, samples, settings)
    file = folder / f"{hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:24]}.npy"
    size, room = 4 * dim * len(samples), settings.kd.teacher_cache_gib * 2**30
    if size > room:
        raise InputError(
            f"the features of {teacher.name} of {len(samples)} videos take {size / 2**30:.2f} GiB, "
            f"kd.teacher_cache_gib is {settings.kd.teacher_cache_gib:g}",
            remedy=f"--set kd.teacher_cache_gib={size / 2**30 * 1.1:.2f}, or leave out --teacher-cache",
        )
    if file.is_file():
        os.utime(file)  # what was used last goes last
    else:
        folder.mkdir(parents=True, exist_ok=True)
        _make_room(folder, room - size)
        _fill(file, teacher, index, samples, settings, device)
        write_text(file.with_suffix(".json"), json.dumps(told, indent=2) + "\n")
    rows = torch.from_numpy(np.load(file, mmap_mode="c"))  # "c": torch wants arrays that may be written to
    silent = PclModel(_Silent(dim), pretext_classes=0, embedding_dim=0)
    return replace(teacher, model=silent, view=None, banks=None, answers=RememberedFeatures(rows))


def _told(
    teacher: Teacher, index: ShardIndex, samples: NDArray[np.int64], settings: RunSettings
) -> Mapping[str, object]:
    """All that the features depend on."""
    weights = hashlib.sha256()
    for name, value in sorted(teacher.model.base_network.state_dict().items()):
        weights.update(name.encode())
        weights.update(value.contiguous().view(torch.uint8).numpy() if value.ndim else str(value).encode())
    clip = settings.tuples.model_dump(include={"clip_frames", "frame_stride", "short"})
    return {
        "teacher": teacher.name,
        "weights": weights.hexdigest(),
        "view": None if teacher.view is None else teacher.view.model_dump(mode="json"),
        "shards": index.fingerprint,
        "videos": hashlib.sha256(samples.tobytes()).hexdigest(),
        "clips": {**clip, "crop": settings.loader.crop, "modality": settings.loader.modality, "count": _CLIPS},
        "precision": settings.precision,
    }


def _make_room(folder: Path, room: float) -> None:
    """Remove the longest unused files until the others take no more than `room` bytes; open ones stay readable."""
    files = sorted(folder.glob("*.npy"), key=lambda file: file.stat().st_mtime)
    left = sum(file.stat().st_size for file in files)
    for file in files:
        if left <= room:
            break
        left -= file.stat().st_size
        file.unlink(missing_ok=True)
        file.with_suffix(".json").unlink(missing_ok=True)


def _fill(
    file: Path,
    teacher: Teacher,
    index: ShardIndex,
    samples: NDArray[np.int64],
    settings: RunSettings,
    device: torch.device,
) -> None:
    """Ask the teacher about all videos, and write the file: to another name, then renamed."""
    model, precision = placed(teacher.model.eval(), device), Precision(settings.precision, device)
    clip = settings.tuples
    recipe = UniformRecipe(_CLIPS, clip.clip_frames, clip.frame_stride, clip.short)
    part = file.with_suffix(f".{os.getpid()}.part")
    rows = np.lib.format.open_memmap(part, "w+", np.float32, (len(samples), model.base_network.feature_dim))
    try:
        how: dict[str, Any] = {"recipe": recipe, "shuffle": False, "samples": samples, "device": device}
        from pclkd.pipeline.opening import clip_loader  # where DALI is missing, steps are measured all the same

        with clip_loader(index, settings, World(), moments=views_of([teacher])[0], **how) as loader:
            for batch in loader.epoch(0):
                clips = batch.moments[0] if batch.moments else batch.clips
                with torch.inference_mode(), precision.autocast():
                    features = model.features(clips)[: batch.valid].float().mean(1)
                rows[batch.sample_index[: batch.valid].cpu().numpy()] = features.cpu().numpy()
        rows.flush()
        part.replace(file)
    finally:
        part.unlink(missing_ok=True)
