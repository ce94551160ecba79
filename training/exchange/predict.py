"""What a fine-tuned network calls the action of each of many videos."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import torch

from pclkd.sharding.common.errors import InputError
from pclkd.training.compute.distributed import choose_device
from pclkd.training.exchange.many_videos import Damaged, clips_of
from pclkd.training.exchange.trained_backbone import CARD_NAME
from pclkd.training.models.memory_layout import placed
from pclkd.training.runs.fine_tuned import FINE_TUNED_NAME, load_fine_tuned

__all__ = ["predict_videos"]


@torch.inference_mode()
def predict_videos(
    run: Path, videos: Iterable[str], *, clips: int = 10, most: int = 5, damaged: Damaged
) -> Iterator[dict[str, Any]]:
    """The most probable classes of each video, and of each of its clips.

    A video's are those of the mean of its clips' logits, as fine-tuned networks are measured.

    Args:
        run: a run that was fine-tuned.
        videos: files.
        clips: evenly spaced clips a video.
        most: how many classes.
        damaged: called with each file that cannot be decoded, and why.

    Yields:
        video: its file; top: class and probability, the first one first; clips: the same of each clip, in their order.

    Raises:
        InputError: the run has no fine-tuned network, or is none but an export.
    """
    if (run / CARD_NAME).exists() and not (run / FINE_TUNED_NAME).exists():
        raise InputError(f"{run} is an exported backbone, which names no actions", remedy="give the run, fine-tuned")
    network, notes = load_fine_tuned(run)
    device = choose_device()
    network = placed(network, device)
    for video, shown in clips_of(videos, notes.clips, clips, damaged):
        logits = network(shown.to(device)).cpu()
        rows = [_top(row, notes.classes, most) for row in (logits.mean(0), *logits)]
        yield {"video": video, "top": rows[0], "clips": rows[1:]}


def _top(logits: torch.Tensor, classes: tuple[str, ...], most: int) -> list[dict[str, str | float]]:
    found = logits.softmax(0).topk(min(most, len(classes)))
    return [
        {"class": classes[place], "probability": round(share, 4)}
        for share, place in zip(found.values.tolist(), found.indices.tolist(), strict=True)
    ]
