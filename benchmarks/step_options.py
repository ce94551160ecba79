"""How a step is carried out, so that each choice can be timed beside its alternative."""

from dataclasses import dataclass
from typing import Literal

import torch

from pclkd.training.architecture import Backbone
from pclkd.training.compilation import Compile
from pclkd.training.pcl_model import PclModel

__all__ = ["StepOptions", "VariedModel", "with_fused"]


@dataclass(frozen=True)
class StepOptions:
    """The choices; by default all are as the trainer makes them on the device.

    Attributes:
        precision: auto, fp32, fp16 or bf16.
        compile: of the student's backbone; auto races on a GPU.
        fused: whether one kernel updates all weights; None: as the trainer has it.
        channels_last: whether clips and weights lie as channels_last_3d; None: on a GPU alone.
        clip_by_clip: the network that takes a forward pass for each of a sample's clips, instead of one for all.
        read_figures: bring the losses to the host after each step.
        autotune: let cuDNN try its algorithms (torch.backends.cudnn.benchmark); None: as `choose_device` set it.
    """

    precision: str = "auto"
    compile: Compile = "auto"
    fused: bool | None = None
    channels_last: bool | None = None
    clip_by_clip: Literal["none", "student", "teacher"] = "none"
    read_figures: bool = False
    autotune: bool | None = None

    def keeps_channels_last(self, device: torch.device) -> bool:
        """`channels_last` on that device."""
        return device.type == "cuda" if self.channels_last is None else self.channels_last


class VariedModel(PclModel):
    """A PclModel whose backbone gets its clips in a given layout, or one clip of the samples at a time.

    Args:
        backbone: as in PclModel.
        channels_last: the layout: channels_last_3d, or contiguous.
        clip_by_clip: one forward pass for each of a sample's clips.
    """

    def __init__(self, backbone: Backbone, *, channels_last: bool, clip_by_clip: bool) -> None:
        super().__init__(backbone)
        self._layout = torch.channels_last_3d if channels_last else torch.contiguous_format
        self._clip_by_clip = clip_by_clip

    def features(self, clips: torch.Tensor) -> torch.Tensor:
        """As in PclModel: [B, V, C, T, H, W] -> [B, V, F]."""
        if self._clip_by_clip and clips.shape[1] > 1:
            return torch.cat([self.features(clips[:, [view]]) for view in range(clips.shape[1])], dim=1)
        features: torch.Tensor = self.base_network(clips.flatten(0, 1).contiguous(memory_format=self._layout))
        return features.reshape(*clips.shape[:2], -1)


def with_fused(optimizer: torch.optim.Optimizer, *, fused: bool) -> torch.optim.Optimizer:
    """The same fresh optimiser with fused updates, or with torch's default ones."""
    # Each group holds its own copy of every setting, which would win.
    settings = {"fused": fused, "foreach": None}
    groups = [{**group, **settings} for group in optimizer.param_groups]
    return type(optimizer)(groups, **{**optimizer.defaults, **settings})
