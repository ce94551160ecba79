"""Which checkpoints a run keeps."""

from typing import Literal

from pydantic import Field

from pclkd.sharding.common.settings import Settings

__all__ = ["CheckpointSettings"]


class CheckpointSettings(Settings):
    """What is saved beside last.pt, which every finished epoch replaces."""

    keep: int = Field(default=0, ge=0)
    """Checkpoints of the latest finished epochs to keep beside last.pt, as epoch-NNNN.pt."""
    best: Literal["", "val/pretext_top1_pct", "val/linear_top1_pct", "val/retrieval_r1_pct"] = ""
    """Measured figure whose highest value is kept as best.pt; empty: none."""
    every_steps: int = Field(default=0, ge=0)
    """Steps between further saves of last.pt within an epoch; 0: none."""
