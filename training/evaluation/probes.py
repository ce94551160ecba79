"""How good are frozen features? A linear probe, nearest neighbours that vote, and retrieval.

Source: the published protocols of the field; a retrieval hit means that any of the k nearest training videos has the
query's class. Every test video is scored.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F

__all__ = ["LinearProbe", "fit_linear_probe", "knn_vote", "linear_probe", "most_similar", "retrieval_at_k"]

_BLOCK_BYTES = 2**28  # of similarities at once; what is sorted takes a few times as much


@dataclass(frozen=True)
class LinearProbe:
    """A linear classifier of standardised features; float64.

    Attributes:
        mean: [F], of the features it was fitted to.
        scale: [F], their deviation; infinite for features that never change.
        weight: [classes, F].
        bias: [classes].
    """

    mean: torch.Tensor
    scale: torch.Tensor
    weight: torch.Tensor
    bias: torch.Tensor

    def logits(self, features: torch.Tensor) -> torch.Tensor:
        """[M, F] -> [M, classes]."""
        return (features.double() - self.mean) / self.scale @ self.weight.T + self.bias


def linear_probe(
    train_features: torch.Tensor,
    train_labels: torch.Tensor,
    test_features: torch.Tensor,
    test_labels: torch.Tensor,
    *,
    classes: int,
    penalty: float = 1e-2,
) -> torch.Tensor:
    """[M] bool: which test videos multinomial logistic regression on standardised features tells right.

    Args:
        train_features: [N, F].
        train_labels: [N] int64.
        test_features: [M, F].
        test_labels: [M] int64.
        classes: number of classes.
        penalty: see `fit_linear_probe`.
    """
    probe = fit_linear_probe(train_features, train_labels, classes=classes, penalty=penalty)
    return probe.logits(test_features).argmax(1) == test_labels


def fit_linear_probe(
    features: torch.Tensor, labels: torch.Tensor, *, classes: int, penalty: float = 1e-2
) -> LinearProbe:
    """Multinomial logistic regression on standardised features.

    The problem is convex and solved to convergence (L-BFGS in float64 from zero), so the result has no seed and no
    learning rate.

    Args:
        features: [N, F].
        labels: [N] int64.
        classes: number of classes.
        penalty: weight of the squared norm of the weights; one value for all networks, so that none is favoured.
    """
    mean, std = features.double().mean(0), features.double().std(0, correction=0)
    # A feature that never changes says nothing; dividing by its rounding noise would make it shout.
    scale = torch.where(std > 1e-6 * std.max().clamp(min=1e-12), std, torch.inf)
    train = (features.double() - mean) / scale
    weight = torch.zeros(classes, train.shape[1], dtype=torch.float64, device=train.device, requires_grad=True)
    bias = torch.zeros(classes, dtype=torch.float64, device=train.device, requires_grad=True)
    solver = torch.optim.LBFGS(
        [weight, bias], max_iter=200, tolerance_grad=1e-6, history_size=20, line_search_fn="strong_wolfe"
    )

    def closure() -> torch.Tensor:
        solver.zero_grad()
        loss = F.cross_entropy(train @ weight.T + bias, labels) + penalty * weight.square().sum()
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    with torch.enable_grad():
        solver.step(closure)  # type: ignore[no-untyped-call]
    return LinearProbe(mean, scale, weight.detach(), bias.detach())


def retrieval_at_k(
    train_features: torch.Tensor,
    train_labels: torch.Tensor,
    test_features: torch.Tensor,
    test_labels: torch.Tensor,
    ks: tuple[int, ...] = (1, 5, 10, 20, 50),
) -> dict[int, torch.Tensor]:
    """By k, [M] bool: which test videos have one of their class among the k most similar training videos.

    Args:
        train_features: [N, F], the videos searched.
        train_labels: [N] int64.
        test_features: [M, F], the queries; similarity is the cosine.
        test_labels: [M] int64.
        ks: numbers of neighbours; those above N count all N.
    """
    _, nearest = most_similar(train_features, test_features, max(ks))
    hits = (train_labels[nearest] == test_labels[:, None]).cummax(dim=1).values  # [M, largest k]: a hit so far
    return {k: hits[:, min(k, hits.shape[1]) - 1] for k in ks}


def most_similar(
    train_features: torch.Tensor, test_features: torch.Tensor, count: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """The `count` largest cosine similarities of each query to the videos [M, count], descending, and whose they are.

    Of equal ones the first comes first; `count` may be above N, and all N come.
    """
    likeness, nearest = [], []
    for block in _similarities(test_features, train_features):
        found = block.sort(dim=1, descending=True, stable=True)
        likeness.append(found.values[:, :count].clone())  # the rest of the block goes
        nearest.append(found.indices[:, :count].clone())
    return torch.cat(likeness), torch.cat(nearest)


def knn_vote(
    train_features: torch.Tensor,
    train_labels: torch.Tensor,
    test_features: torch.Tensor,
    test_labels: torch.Tensor,
    *,
    classes: int,
    k: int = 20,
    temperature: float = 0.07,
) -> torch.Tensor:
    """[M] bool: which test videos a vote among the k nearest training videos tells right.

    Each neighbour's vote weighs exp(cosine / temperature).

    Source: Wu et al., arXiv 1805.01978.

    Args:
        train_features: [N, F], the voters.
        train_labels: [N] int64.
        test_features: [M, F].
        test_labels: [M] int64.
        classes: number of classes.
        k: voters a video; all N where there are fewer.
        temperature: smaller lets the nearest decide.
    """
    said = []
    for block in _similarities(test_features, train_features):
        near, who = block.topk(min(k, block.shape[1]), dim=1)
        votes = torch.zeros(len(near), classes, dtype=torch.float64, device=near.device)
        # Relative to the nearest, so that the exponential stays small; the ranking is the same.
        votes.scatter_add_(1, train_labels[who], torch.exp((near - near[:, :1]) / temperature))
        said.append(votes.argmax(1))
    return torch.cat(said) == test_labels


def _similarities(queries: torch.Tensor, stored: torch.Tensor) -> Iterator[torch.Tensor]:
    """The cosines of all [M, F] queries with all [N, F] stored vectors, block after block of queries: [m, N] float64.

    All at once would be 38 GB for Kinetics-400.
    """
    queries, stored = (F.normalize(features.double(), dim=1) for features in (queries, stored))
    rows = max(1, _BLOCK_BYTES // (len(stored) * stored.element_size()))
    for start in range(0, len(queries), rows):
        yield queries[start : start + rows] @ stored.T
