"""The step as trained with one thing changed: each choice gets its own line."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch

from pclkd.benchmarks.steps.case import StepNetworks
from pclkd.training.models.memory_layout import is_channels_last

__all__ = ["StepLines", "step_lines"]

_NO_GPU = "this process has no GPU"


@dataclass(frozen=True)
class StepLines:
    """What is compared.

    Attributes:
        changed: networks with one option changed, by the name of the change.
        missing: changes that are not made here, and why.
    """

    changed: Mapping[str, StepNetworks]
    missing: Mapping[str, str]


def step_lines(trained: StepNetworks, device: torch.device, *, fused: bool, quick: bool) -> StepLines:
    """Every choice that the trained step could make otherwise.

    Args:
        trained: the step as it is, with compile=auto decided.
        device: where it runs.
        fused: whether its optimiser is fused.
        quick: whether to leave out what takes a minute to prepare.
    """
    on_gpu = device.type == "cuda"
    last = is_channels_last(trained.options.layout, device)
    now = trained.precision(device).name
    changed = {
        "optimizer_not_fused" if fused else "optimizer_fused": trained.varied(fused=not fused),
        "contiguous" if last else "channels_last": trained.varied(layout="contiguous" if last else "channels-last"),
        "three_forwards": trained.varied(clip_by_clip="student"),
        "figures_read_each_step": trained.varied(read_figures=True),
    }
    changed |= {name: trained.varied(precision=name) for name in ("fp32", "bf16", "fp16") if name != now}
    forms = on_gpu and last and trained.options.gpu_forms != "off"
    changed[f"gpu_forms_{'off' if forms else 'on'}"] = trained.varied(gpu_forms="off" if forms else "on")
    if trained.teacher is not None:
        changed["three_teacher_forwards"] = trained.varied(clip_by_clip="teacher")
    missing: dict[str, str] = {}
    if trained.options.compile != "off":
        changed["compile_off"] = trained.varied(compile="off")
    if not on_gpu and quick:
        missing["compile_on"] = "compiling for a CPU takes a minute: not with --quick"
    elif trained.options.compile != "on":
        changed["compile_on"] = trained.varied(compile="on")
    if not on_gpu:
        missing["compile_cuda_graphs"] = _NO_GPU
    elif trained.options.compile != "cuda-graphs":
        changed["compile_cuda_graphs"] = trained.varied(compile="cuda-graphs")
    return StepLines(changed, missing)
