"""Which pretext task, by name."""

from typing import Literal, Self

from pydantic import Field, model_validator

from pclkd.pipeline.clip_order import ClipOrder
from pclkd.pipeline.pretext import Changed, Pretext
from pclkd.pipeline.rotation import Rotation
from pclkd.pipeline.settings import Settings
from pclkd.pipeline.speed import Speed
from pclkd.pipeline.vcp import Vcp

__all__ = ["PretextSettings"]


class PretextSettings(Settings):
    """The pretext task and its parameters."""

    task: Literal["vcp", "order", "rotation", "speed", "none"] = "vcp"
    """vcp: what was done to the middle clip; order: of the clips; rotation; speed: of playback; none: plain clips."""
    changed: Changed = "middle"
    """rotation and speed: middle changes the middle clip and leaves the others for contrast; all changes all alike."""
    strides: tuple[int, ...] = Field(default=(1, 2, 4, 8), min_length=2)
    """speed: the classes, as multiples of normal speed, 1-8, ascending."""

    @model_validator(mode="after")
    def _used(self) -> Self:
        """A parameter that the task does not have is a mistake."""
        if self.changed != "middle" and self.task not in {"rotation", "speed"}:
            raise ValueError(f"task {self.task} does not choose which clips it changes; leave changed at middle")
        if self.strides != (1, 2, 4, 8) and self.task != "speed":
            raise ValueError(f"task {self.task} has no strides; leave them at 1, 2, 4, 8")
        return self

    def build(self) -> Pretext | None:
        """The task, None for none.

        Raises:
            InputError: strides that are no speeds.
        """
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
