"""What a network was fed: the form of its clips, so that videos of any source can be given to it alike."""

from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field

from pclkd.sharding.common.settings import Settings
from pclkd.sharding.video.settings import PackSettings
from pclkd.training.runs.run_folder import SETTINGS_NAME, read_run
from pclkd.training.settings import RunSettings

__all__ = ["STORED_FRAMES", "ClipForm"]

STORED_FRAMES = "stored_frames"
"""Where settings.json of a run has how its shard set stores frames."""


class ClipForm(Settings):
    """The form of a clip; the fields are arguments of `video_clips`. The defaults are the published ones."""

    frames: int = Field(default=16, ge=1)
    """Frames a clip."""
    crop: int = Field(default=112, ge=1)
    """Height and width, in pixels."""
    modality: Literal["residual", "rgb"] = "residual"
    """residual: each frame minus its predecessor."""
    size: tuple[int, int] | int = (128, 171)
    """Height and width that frames are resized to before the crop, or their short side."""
    fps: float = Field(default=0, ge=0)
    """Frames a second that clips are taken from; 0: as many as a video has."""

    @classmethod
    def of(cls, settings: RunSettings, stored: PackSettings) -> Self:
        """The form of a run's clips, out of a shard set that stores frames so."""
        return cls(
            frames=settings.tuples.clip_frames,
            crop=settings.loader.crop,
            modality=settings.loader.modality,
            size=stored.short_side or (stored.height, stored.width),
            fps=stored.fps,
        )

    @classmethod
    def of_run(cls, run: Path, settings: RunSettings) -> Self:
        """The form of a run's clips, as its folder tells; without a folder the frames are taken for the usual ones.

        Args:
            run: run folder or checkpoint.
            settings: of the run.
        """
        folder = run if run.is_dir() else run.parent
        told: Any = read_run(folder).settings.get(STORED_FRAMES) if (folder / SETTINGS_NAME).is_file() else None
        return cls.of(settings, PackSettings(**(told or {})))
