"""How a step is carried out, so that each choice can be timed beside its alternative."""

from dataclasses import dataclass
from typing import Literal

import torch

from pclkd.training.models.compilation import Compile
from pclkd.training.models.memory_layout import Layout
from pclkd.training.models.pcl_model import PclModel

__all__ = ["ClipByClipModel", "StepOptions", "with_fused"]


@dataclass(frozen=True)
class StepOptions:
    """The choices; by default all are as the trainer makes them on the device.

    Attributes:
        precision: auto, fp32, fp16 or bf16.
        compile: of the student's backbone; auto races on a GPU.
        fused: whether one kernel updates all weights; None: as the trainer has it.
        layout: order of clips and weights in memory.
        clip_by_clip: the network that takes a forward pass for each of a sample's clips, instead of one for all.
        read_figures: bring the losses to the host after each step.
        autotune: let cuDNN try its algorithms (torch.backends.cudnn.benchmark); None: as `choose_device` set it.
    """

    precision: str = "auto"
    compile: Compile = "auto"
    fused: bool | None = None
    layout: Layout = "auto"
    clip_by_clip: Literal["none", "student", "teacher"] = "none"
    read_figures: bool = False
    autotune: bool | None = None


class ClipByClipModel(PclModel):
    """A PclModel whose backbone makes one forward pass for each of a sample's clips."""

    def features(self, clips: torch.Tensor) -> torch.Tensor:
        """As in PclModel: [B, V, C, T, H, W] -> [B, V, F]."""
        passes = [super(ClipByClipModel, self).features(clips[:, [view]]) for view in range(clips.shape[1])]
        return torch.cat(passes, dim=1)


def with_fused(optimizer: torch.optim.Optimizer, *, fused: bool) -> torch.optim.Optimizer:
    """The same fresh optimiser with fused updates, or with torch's default ones."""
    # Each group holds its own copy of every setting, which would win.
    settings = {"fused": fused, "foreach": None}
    groups = [{**group, **settings} for group in optimizer.param_groups]
    return type(optimizer)(groups, **{**optimizer.defaults, **settings})
