"""An accuracy and how far to trust it: percent, and the standard error of answers about videos."""

import math
from collections.abc import Sequence
from typing import Any

import torch

__all__ = ["accuracy", "mean_over_splits"]


def accuracy(name: str, hits: torch.Tensor, videos: torch.Tensor | None = None) -> dict[str, float]:
    """Share of right answers in percent as `<name>_pct`, and its standard error in points as `<name>_pct_se`.

    What another test set would change is the videos, and answers about one video hang together. So with h right ones
    of n answers about each of V videos, summed over videos,

        p = sum h / sum n,   error = sqrt(V / (V - 1) * sum (h - p n)^2) / sum n

    which for videos that are asked equally often is the deviation of their own shares / sqrt(V). It says nothing of
    what another seed would change. Of fewer than two videos there is no error.

    Source: Cochran, Sampling Techniques, the ratio estimator.

    Args:
        name: of the figure.
        hits: [N] bool, the answers.
        videos: [N] int64, which video each is about; by default each is about another.
    """
    right = hits.double().cpu()
    if videos is None:
        asked = torch.ones_like(right)
    else:
        _, position, counts = torch.unique(videos.cpu(), return_inverse=True, return_counts=True)
        asked, right = counts.double(), torch.zeros(len(counts), dtype=torch.float64).index_add_(0, position, right)
    share, number = right.sum() / asked.sum(), len(asked)
    figures = {f"{name}_pct": 100 * share.item()}
    if number > 1:
        spread = (right - share * asked).square().sum() * number / (number - 1)
        figures[f"{name}_pct_se"] = 100 * (spread.sqrt() / asked.sum()).item()
    return figures


def mean_over_splits(found: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The mean of each accuracy over those splits that have it, with its standard error; counts are added up.

    The error takes the splits' test videos for different ones, as in UCF101, whose test parts share none:
    sqrt(sum of squares) / splits. Where parts share videos it is too small, by sqrt(splits) at most. That the splits'
    networks learned from some of the same videos is left out of account.
    """
    figures: dict[str, Any] = {}
    for name in dict.fromkeys(name for split in found for name in split):
        values = [split[name] for split in found if isinstance(split.get(name), int | float)]
        if not values:
            continue
        if name.endswith("_pct"):
            figures[name] = math.fsum(values) / len(values)
        elif name.endswith("_pct_se"):
            figures[name] = math.hypot(*values) / len(values)
        else:
            figures[name] = sum(values)
    return figures
