"""The step, put together in the one order that is right, by the trainer and by whoever measures it.

A compiler has to see the network that trains: with the batch norms, the memory layout and the mode that it will have.
"""

from collections.abc import Callable, Sequence

import torch
from torch import nn

from pclkd.pipeline.world import World
from pclkd.training.compute.convolutions import check_convolutions
from pclkd.training.compute.distributed import wrapped
from pclkd.training.compute.precision import Precision
from pclkd.training.compute.step import TrainStep
from pclkd.training.models.compilation import compile_backbone
from pclkd.training.models.gpu_forms import fold_batch_norm, with_gpu_forms
from pclkd.training.models.memory_layout import is_channels_last, placed
from pclkd.training.models.pcl_model import PclModel
from pclkd.training.objective.fit import inner_model
from pclkd.training.objective.objective import Objective
from pclkd.training.settings import RunSettings

__all__ = ["build_step", "make_ready"]


def build_step(
    student: PclModel,
    objective: Callable[[nn.Module], Objective],
    clips_shape: Sequence[int],
    precision: Precision,
    settings: RunSettings,
    world: World | None = None,
    moment_shapes: Sequence[Sequence[int]] = (),
) -> TrainStep[Objective]:
    """A step that can be taken; all processes of a job have to build it together.

    Args:
        student: to be trained; it is placed, changed and compiled in place.
        objective: of the student, which may be wrapped by then; its teachers are placed and compiled too.
        clips_shape: [B, V, 3, T, H, W] of a process' batch.
        precision: arithmetic and device.
        settings: optimizer, layout, gpu_forms, compile, sync_batch_norm and guards.non_finite are heeded.
        world: the processes.
        moment_shapes: [B, V, 3, T', H', W'] of each of `batch.moments`.

    Raises:
        InputError: student, teachers and settings do not fit each other, the device computes their convolutions
            wrongly, or compiling fails.
    """
    world = world or World()
    if settings.sync_batch_norm and world.size > 1:
        nn.SyncBatchNorm.convert_sync_batchnorm(student)  # type: ignore[no-untyped-call]
    make_ready(student.train(), clips_shape, precision, settings)
    trained = wrapped(student, world, precision.device)
    learned = objective(trained).to(precision.device).train()
    for teacher, view in zip(learned.teachers, learned.teacher_views, strict=True):
        shape = clips_shape if view is None else moment_shapes[view]
        make_ready(inner_model(teacher), shape, precision, settings, frozen=learned.past is None)
    if precision.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(precision.device)  # what checks and races took is no matter of the step
    global_batch = clips_shape[0] * world.size * settings.optimizer.accumulate
    skip = settings.guards.non_finite == "skip"
    return TrainStep(learned, trained, settings.optimizer, precision, global_batch, skip_non_finite=skip)


def make_ready(
    network: PclModel,
    clips_shape: Sequence[int],
    precision: Precision,
    settings: RunSettings,
    *,
    frozen: bool = True,
) -> str:
    """Place, check and compile a student in train mode, or a teacher in eval mode.

    Args:
        network: to be made ready, in place.
        clips_shape: as in `build_step`.
        precision: as in `build_step`.
        settings: as in `build_step`.
        frozen: a teacher stays as it is, so that its batch norms may become part of its convolutions.

    Returns:
        What `compile_backbone` chose.

    Raises:
        InputError: convolutions are wrong on this device, or compiling fails.
    """
    placed(network, precision.device, settings.layout)
    foreign = network.base_network.foreign
    in_gpu_forms = settings.gpu_forms == "on" and not foreign
    if not foreign and settings.gpu_forms == "auto" and precision.device.type == "cuda":
        in_gpu_forms = is_channels_last(settings.layout, precision.device)
    if in_gpu_forms:
        if frozen and not network.training:
            fold_batch_norm(network.base_network)
        with_gpu_forms(network.base_network)
    clips = next(network.passes(torch.zeros(*clips_shape, device=precision.device))).flatten(0, 1)
    check_convolutions(network.base_network, clips, precision, learned=network.training)
    how = "off" if foreign else settings.compile
    return compile_backbone(network, how, clips, precision, trained=network.training)
