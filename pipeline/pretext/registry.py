"""Which pretext task, by name."""

from typing import Literal

from pydantic import ValidationInfo, field_validator

from pclkd.pipeline.pretext.base import Changed, Pretext
from pclkd.pipeline.pretext.clip_order import ClipOrder
from pclkd.pipeline.pretext.rotation import Rotation
from pclkd.pipeline.pretext.speed import Speed
from pclkd.pipeline.pretext.vcp import Vcp
from pclkd.sharding.common.errors import InputError
from pclkd.sharding.common.settings import Settings

__all__ = ["PretextSettings"]

_STRIDES = (1, 2, 4, 8)


class PretextSettings(Settings):
    """The pretext task and its parameters."""

    task: Literal["vcp", "order", "rotation", "speed", "none"] = "vcp"
    """vcp: what was done to the middle clip; order: of the clips; rotation; speed: of playback; none: plain clips."""
    changed: Changed = "middle"
    """rotation and speed: middle changes the middle clip and leaves the others for contrast; all changes all alike."""
    strides: tuple[int, ...] = _STRIDES
    """speed: the classes, as multiples of normal speed, 1-8, ascending."""

    @field_validator("changed")
    @classmethod
    def _changes_what_it_can(cls, changed: Changed, info: ValidationInfo) -> Changed:
        task = info.data.get("task")
        if changed != "middle" and task not in {None, "rotation", "speed"}:
            raise ValueError(f"pretext.task={task} does not choose which clips it changes: leave this at middle")
        return changed

    @field_validator("strides")
    @classmethod
    def _are_speeds(cls, strides: tuple[int, ...], info: ValidationInfo) -> tuple[int, ...]:
        task = info.data.get("task")
        if strides != _STRIDES and task not in {None, "speed"}:
            raise ValueError(f"pretext.task={task} has no strides: leave them at {list(_STRIDES)}")
        try:
            Speed(strides)
        except InputError as error:
            raise ValueError(error.remedy) from None
        return strides

    def build(self) -> Pretext | None:
        """The task, None for none."""
        match self.task:
            case "vcp":
                return Vcp()
            case "order":
                return ClipOrder()
            case "rotation":
                return Rotation(self.changed)
            case "speed":
                return Speed(self.strides, self.changed)
            case "none":
                return None
