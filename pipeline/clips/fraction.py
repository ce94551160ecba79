"""A part of the videos in which every class keeps its share, and which a larger part contains."""

import numpy as np
from numpy.typing import NDArray

from pclkd.pipeline.randomness import Purpose, uniform

__all__ = ["balanced_fraction"]


def balanced_fraction(
    samples: NDArray[np.int64], labels: NDArray[np.integer], fraction: float, seed: int
) -> NDArray[np.int64]:
    """The first part of one order of the samples, through which each class is spread evenly.

    As an order's beginnings, the parts of a seed lie in each other. Sample r of the n of a class, in random order,
    stands at (r + u) / n, where the u of the classes are spread evenly over [0, 1), at random: up to any place t a
    class has n t samples, less or more than one apart.

    Args:
        samples: [N] distinct sample ids.
        labels: [N] their classes.
        fraction: share to take, in (0, 1].
        seed: which ones.

    Returns:
        [max(1, round(fraction * N))] sample ids, in the order of `samples`.
    """
    classes, members = np.unique(labels, return_inverse=True)
    start = (np.argsort(_draw(seed, 1, np.arange(len(classes)))) + 0.5) / len(classes)
    place = np.empty(len(samples))
    for number in range(len(classes)):
        rows = np.flatnonzero(members == number)
        shuffled = rows[np.argsort(_draw(seed, 0, samples[rows]), kind="stable")]
        place[shuffled] = (np.arange(len(rows)) + start[number]) / len(rows)
    first = np.argsort(place, kind="stable")[: max(1, round(fraction * len(samples)))]
    return samples[np.sort(first)]


def _draw(seed: int, stream: int, ids: NDArray[np.int64]) -> NDArray[np.float64]:
    """[N] numbers in [0, 1): stream 0 orders samples, 1 classes."""
    return uniform(seed, stream, ids, Purpose.FRACTION, 1)[:, 0]
