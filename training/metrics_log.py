"""Where figures go: `metrics.jsonl` and TensorBoard."""

from pathlib import Path
from typing import Any

from torch.utils.tensorboard import SummaryWriter

from pclkd.training.run_files import append_metrics

__all__ = ["MetricsLog"]

_TERMS = frozenset(
    (
        *("loss", "pretext", "contrast", "kd_pretext", "kd_contrast", "kd_feature", "kd_relation"),
        *("pretext_top1_pct", "embedding_spread", "agreement_pct"),
    )
)


class MetricsLog:
    """Writes a record to both places; units stand in the tags.

    Args:
        run: the run folder.
        first_step: steps done before; TensorBoard forgets what a killed sitting wrote beyond it.
    """

    def __init__(self, run: Path, first_step: int) -> None:
        self._file = run / "metrics.jsonl"
        self._board = SummaryWriter(str(run / "tensorboard"), purge_step=first_step + 1)

    def write(self, record: dict[str, Any]) -> None:
        """Log a record of kind "step" or "epoch"; its "step" is TensorBoard's step."""
        append_metrics(self._file, record)
        for name, value in record.items():
            if name in {"kind", "epoch", "step"}:
                continue
            tag = f"step/{name}" if name in _TERMS else name
            if isinstance(value, str):
                self._board.add_text(tag, value, record["step"])
            else:
                self._board.add_scalar(tag, value, record["step"])

    def close(self) -> None:
        """Flush and close."""
        self._board.close()
