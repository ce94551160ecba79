"""Setting up a run: check everything, then build data, networks and objective.

All input is checked before a process group is joined and before a byte is written: torchrun turns whatever a child
raises into exit code 1, and a half-made run folder must not look like a run.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from pclkd.pipeline.loader.loader import ClipLoader
from pclkd.pipeline.opening import clip_loader
from pclkd.pipeline.world import World
from pclkd.sharding.common.errors import InputError
from pclkd.sharding.common.files import check_place
from pclkd.sharding.shards.index import ShardIndex
from pclkd.training.compute.distributed import choose_device
from pclkd.training.loop.refusals import check_clips, check_labels, check_pretext, check_terms
from pclkd.training.loop.tracking import check_tracker
from pclkd.training.models.pcl_model import PclModel
from pclkd.training.objective.fit import adapter_dims, check_teachers, grid_dims
from pclkd.training.objective.objective import Objective
from pclkd.training.objective.registry import chosen_terms
from pclkd.training.runs.checkpoint import (
    CHECKPOINT_NAME,
    Checkpoint,
    build_model,
    load_checkpoint,
    load_model,
    restoring,
)
from pclkd.training.runs.checkpoint_writer import BEST_NAME
from pclkd.training.runs.run_folder import PROTOCOLS, evaluation_path
from pclkd.training.runs.teacher_cache import check_cache, remembered
from pclkd.training.runs.teachers import Teacher, check_data, load_teacher, views_of
from pclkd.training.settings import RunSettings, flat

__all__ = ["HOW_IT_LOADS", "RunPlan", "plan_run"]

_Said = TypeVar("_Said")
HOW_IT_LOADS = (
    *("decode", "operators", "threads", "prefetch", "quarantine_limit_pct", "wait_limit_s"),
    *("storage_limit_s", "cache_dir", "cache_gib"),
)
"""Settings of the loader that leave the clips alone."""


@dataclass(frozen=True)
class RunPlan:
    """A run that can start.

    Attributes:
        folder: where it writes.
        index: the shard set.
        samples: [rows] sample ids of the train part.
        settings: all settings.
        teachers: to imitate; none in pretraining.
        resumed: the state to go on from, or None.
        world: the processes.
        max_steps: stop after so many steps in all; None goes to the end.
        teacher_cache: folder of what the teachers say of every video; None asks them in every step.
    """

    folder: Path
    index: ShardIndex
    samples: NDArray[np.int64]
    settings: RunSettings
    teachers: tuple[Teacher, ...]
    resumed: Checkpoint | None
    world: World
    max_steps: int | None
    teacher_cache: Path | None = None

    def with_cache(self, device: torch.device) -> "RunPlan":
        """The plan with teachers that answer from `teacher_cache`, filled where it is not yet; without one as it is."""
        if self.teacher_cache is None:
            return self
        cache, what = self.teacher_cache, (self.index, self.samples, self.settings, device)
        return replace(self, teachers=tuple(remembered(teacher, cache, *what) for teacher in self.teachers))

    def loader(self, device: torch.device) -> ClipLoader:
        """The loader of training tuples."""
        moments, _ = views_of(self.teachers)
        return clip_loader(self.index, self.settings, self.world, device=device, moments=moments)

    def each_video_once(self, device: torch.device) -> ClipLoader:
        """A loader of the same tuples, plain: all training videos in order, shared out among the processes."""
        moments, _ = views_of(self.teachers)
        how: dict[str, Any] = {"shuffle": False, "augment": None}
        return clip_loader(self.index, self.settings, self.world, device=device, moments=moments, **how)

    def student(self) -> PclModel:
        """The network to train: fresh weights from the run's seed, or the resumed ones."""
        if self.resumed is not None:
            return load_model(self.resumed, self.folder, trained=True)
        settings, teachers = self.settings, [teacher.model for teacher in self.teachers]
        if settings.kd.self_teacher:
            with torch.device("meta"):  # its shape is known before it is there
                teachers.append(build_model(settings))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(settings.seed)
            maps = adapter_dims(teachers, settings.pcl, settings.kd), grid_dims(teachers, settings.kd)
            return build_model(settings, *maps)

    def objective(self, student: torch.nn.Module) -> Objective:
        """PCL, and distillation where there are teachers, with the resumed memories."""
        settings = self.settings
        objective = Objective(
            student,
            len(self.samples),
            settings.pcl,
            settings.seed,
            teachers=[teacher.model for teacher in self.teachers],
            kd=settings.kd,
            teacher_banks=[teacher.banks for teacher in self.teachers],
            teacher_views=views_of(self.teachers)[1],
            teacher_answers=[teacher.answers for teacher in self.teachers],
        )
        if self.resumed is not None:
            with restoring(self.folder):
                objective.load_memory_state(self.resumed.memory)
        return objective


def plan_run(
    folder: Path,
    data: str | Path,
    settings: RunSettings,
    *,
    teachers: Sequence[str | Path] = (),
    teacher_keys: Sequence[str] = (),
    resume: bool = False,
    max_steps: int | None = None,
    teacher_cache: Path | None = None,
    world: World | None = None,
) -> RunPlan:
    """Check all input and gather what the run needs.

    Args:
        folder: where the run writes.
        data: the shard set.
        settings: of the run. A resumed run must be given the settings it was started with.
        teachers: run folders, checkpoints, or names of networks from elsewhere.
        teacher_keys: which network of several in a file from outside: one for each teacher, or one for all.
        resume: go on from the folder's checkpoint where there is one.
        max_steps: stop after so many steps in all.
        teacher_cache: folder of what the teachers say of every video, instead of asking them in every step.
        world: the processes.

    Raises:
        InputError: anything that does not fit, with the remedy.
    """
    world = world or World()
    keys = _for_each(teacher_keys, "", len(teachers), "teacher keys", "say --teacher-key")
    specs = _for_each(settings.kd.teacher_specs, {}, len(teachers), "kd.teacher_specs", "give one")
    check_place(folder)
    index = ShardIndex.open(data)
    samples = settings.train_samples(index)
    index.split_samples(settings.split, "test" if settings.evaluation.every else "train")
    check_labels(settings, index)
    check_clips(settings)
    check_tracker(settings.track)
    check_pretext(settings)
    taught = bool(teachers) or settings.kd.self_teacher
    chosen = chosen_terms(settings.pcl, settings.kd, pretext=settings.pretext.task != "none", teachers=taught)
    check_terms(settings, chosen, taught, world)
    if settings.sync_batch_norm and choose_device(world).type != "cuda":
        raise InputError("sync_batch_norm needs GPUs, and this process has none", remedy="--set sync_batch_norm=false")
    resumed = None
    if (folder / CHECKPOINT_NAME).exists():
        if not resume:
            raise InputError(f"{folder} already holds a run", remedy="add --resume to go on with it, or change --out")
        resumed = load_checkpoint(folder)
        check_data(resumed, index, len(samples), f"the checkpoint in {folder}")
        _check_unchanged(resumed.settings, settings, elsewhere=resumed.processes != world.size)
    else:
        _check_left(folder, resume=resume)
    plan = RunPlan(
        folder=folder,
        index=index,
        samples=samples,
        settings=settings,
        teachers=tuple(
            load_teacher(teacher, index, len(samples), settings, key, spec)
            for teacher, key, spec in zip(teachers, keys, specs, strict=True)
        ),
        resumed=resumed,
        world=world,
        max_steps=max_steps,
        teacher_cache=teacher_cache,
    )
    networks = [teacher.model for teacher in plan.teachers]
    check_teachers(networks, settings.pcl, settings.kd, pretext=settings.pretext.task != "none")
    if teacher_cache is not None:
        check_cache(settings.kd, world, teacher_cache, plan.teachers)
    if resumed is not None:
        _check_teachers(resumed, len(teachers) + settings.kd.self_teacher, folder)
    with plan.loader(choose_device(world)) as loader:  # checks crop, number of samples and decoder
        if len(loader) < settings.optimizer.accumulate:
            raise InputError(
                f"an epoch has {len(loader)} batches, optimizer.accumulate is {settings.optimizer.accumulate}",
                remedy=f"--set optimizer.accumulate={len(loader)} or less",
            )
    return plan


def _for_each(given: Sequence[_Said], default: _Said, teachers: int, what: str, say: str) -> list[_Said]:
    """What is said of each teacher, where it may be said once for all of them."""
    said = [*given] if len(given) == teachers else [*(given or [default])] * teachers
    if len(said) != teachers:
        raise InputError(
            f"{len(given)} {what} for {teachers} teachers",
            remedy=f"{say} once for all of them, or once for each, in their order",
        )
    return said


def _check_left(folder: Path, *, resume: bool) -> None:
    """Refuse a folder without last.pt where something of another run is left: reports would tell it as the new run's.

    A run killed while it saved its first epoch leaves epoch-0001.pt or best.pt; resumed, it begins anew.
    """
    saved = () if resume else (folder / BEST_NAME, *sorted(folder.glob("epoch-*.pt")))
    for file in (*saved, *(evaluation_path(folder, protocol) for protocol in PROTOCOLS)):
        if file.exists():
            raise InputError(
                f"{folder} holds {file.name} of another run, and no {CHECKPOINT_NAME} to go on from",
                remedy="change --out, or empty the folder",
            )


def _check_teachers(resumed: Checkpoint, teachers: int, folder: Path) -> None:
    had = sum(owner.startswith("teacher") for owner in resumed.memory)
    if had != teachers:
        kind = f"distill with its {had} --teacher" if had else "pretrain"
        raise InputError(
            f"{folder} was started with {had} teacher(s), not {teachers}", remedy=f"resume it with train-kd {kind}"
        )


def _check_unchanged(before: RunSettings, now: RunSettings, *, elsewhere: bool) -> None:
    """A resumed run may train longer and log, evaluate or load otherwise, but not become another run.

    Args:
        before: the settings it was started with.
        now: those it is resumed with.
        elsewhere: whether the number of processes is another one; the batches may then change with it.
    """
    free = {"log_every", "track", *(f"loader.{name}" for name in HOW_IT_LOADS)}
    if before.optimizer.schedule == "plateau":  # the others place their falls by the run's length
        free.add("epochs")
    if elsewhere:
        free |= {"loader.batch_size", "optimizer.accumulate"}
    new = flat(now)
    for name, value in flat(before).items():
        if name not in free and not name.startswith("evaluation.") and new[name] != value:
            raise InputError(
                f"the run was started with {name} = {value}, not {new[name]}",
                remedy="resume with the same preset and --set, or start another run in another --out",
            )
