"""Linear probe and retrieval against other solvers and against loops."""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from pclkd.training.evaluation import probes
from pclkd.training.evaluation.probes import knn_vote, linear_probe, retrieval_at_k


def blobs(seed: int, n: int, classes: int = 3, dim: int = 5, spread: float = 1.0) -> tuple[torch.Tensor, torch.Tensor]:
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(99).normal(size=(classes, dim)) * 3
    labels = rng.integers(0, classes, n)
    return (
        torch.from_numpy((centres[labels] + spread * rng.normal(size=(n, dim))).astype(np.float32)),
        torch.from_numpy(labels),
    )


def newton_probe(x: np.ndarray, y: np.ndarray, tx: np.ndarray, classes: int, penalty: float) -> np.ndarray:
    """The same convex problem by plain gradient descent in float64 numpy, run to rest; predicted classes."""
    mean, std = x.mean(0), x.std(0)
    x, tx = (x - mean) / std, (tx - mean) / std
    weight, bias = np.zeros((classes, x.shape[1])), np.zeros(classes)
    onehot = np.eye(classes)[y]
    for _ in range(20_000):
        logits = x @ weight.T + bias
        p = np.exp(logits - logits.max(1, keepdims=True))
        p /= p.sum(1, keepdims=True)
        weight -= 0.5 * ((p - onehot).T @ x / len(x) + 2 * penalty * weight)
        bias -= 0.5 * (p - onehot).mean(0)
    return (tx @ weight.T + bias).argmax(1)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_probe_finds_the_optimum_that_gradient_descent_finds(seed: int) -> None:
    x, y = blobs(seed, 60, spread=2.5)
    tx, ty = blobs(seed + 10, 200, spread=2.5)
    wanted = newton_probe(x.double().numpy(), y.numpy(), tx.double().numpy(), 3, 1e-2)
    hits = linear_probe(x, y, tx, ty, classes=3).numpy()
    assert (hits != (wanted == ty.numpy())).sum() <= 1  # a video on the border
    assert 100 < hits.sum() < 200


def test_probe_survives_dead_features_and_any_scale() -> None:
    x, y = blobs(0, 60)
    tx, ty = blobs(1, 60)
    plain = linear_probe(x, y, tx, ty, classes=3)
    dead = [torch.cat([1e4 * part, torch.full((60, 1), 7.0)], 1) for part in (x, tx)]
    assert torch.equal(linear_probe(dead[0], y, dead[1], ty, classes=3), plain) and plain.any()


def test_probe_ignores_labels_it_never_saw() -> None:
    x, y = blobs(0, 60)
    assert not linear_probe(x, y, x, y + 3, classes=6).any()


@given(seed=st.integers(0, 50), train=st.integers(1, 30), test=st.integers(1, 12))
def test_retrieval_equals_a_loop(seed: int, train: int, test: int) -> None:
    x, y = blobs(seed, train, spread=4)
    tx, ty = blobs(seed + 1, test, spread=4)
    found = retrieval_at_k(x, y, tx, ty)
    a, b = x.double().numpy(), tx.double().numpy()
    for k, value in found.items():
        hits = []
        for query, label in zip(b, ty.tolist(), strict=True):
            cosine = [query @ row / np.linalg.norm(query) / np.linalg.norm(row) for row in a]
            nearest = sorted(range(train), key=lambda i: -cosine[i])[:k]
            hits.append(any(int(y[i]) == label for i in nearest))
        assert value.tolist() == hits
    assert list(found) == [1, 5, 10, 20, 50]


def test_knn_against_a_loop_over_voters() -> None:
    generator = torch.Generator().manual_seed(5)
    train, test = (torch.randn(n, 6, generator=generator) for n in (30, 17))
    train_labels, test_labels = (torch.randint(4, (n,), generator=generator) for n in (30, 17))
    hits = []
    for query, label in zip(test.double().tolist(), test_labels.tolist(), strict=True):
        cosines = []
        for row, own in zip(train.double().tolist(), train_labels.tolist(), strict=True):
            dot = sum(a * b for a, b in zip(query, row, strict=True))
            norm = math.sqrt(sum(a * a for a in query)) * math.sqrt(sum(b * b for b in row))
            cosines.append((dot / norm, own))
        votes = [0.0] * 4
        for cosine, own in sorted(cosines, reverse=True)[:7]:
            votes[own] += math.exp(cosine / 0.2)
        hits.append(votes.index(max(votes)) == label)
    got = knn_vote(train, train_labels, test, test_labels, classes=4, k=7, temperature=0.2)
    assert got.tolist() == hits
    assert knn_vote(train, train_labels, train, train_labels, classes=4, k=1).all()
    assert len(knn_vote(train[:3], train_labels[:3], test, test_labels, classes=4, k=20)) == 17


class Largest(TorchDispatchMode):
    """The bytes of the largest tensor that any operator gives."""

    def __init__(self) -> None:
        super().__init__()
        self.size = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = function(*args, **(kwargs or {}))
        for tensor in result if isinstance(result, tuple | list) else (result,):
            if isinstance(tensor, torch.Tensor):
                self.size = max(self.size, tensor.numel() * tensor.element_size())
        return result


@pytest.mark.parametrize("measure", [retrieval_at_k, partial(knn_vote, classes=400)])
def test_kinetics_fits_into_memory(measure: Callable[..., object]) -> None:
    with FakeTensorMode(), Largest() as largest:
        train, test = torch.empty(240_436, 512), torch.empty(19_796, 512)
        labels = torch.empty(240_436, dtype=torch.int64), torch.empty(19_796, dtype=torch.int64)
        measure(train, labels[0], test, labels[1])
    features = 240_436 * 512 * 8
    assert features <= largest.size < 2 * features  # all similarities at once were 38 GB


def test_blocks_say_what_all_at_once_says(monkeypatch: pytest.MonkeyPatch) -> None:
    train, test = blobs(0, 50), blobs(1, 37)
    whole = retrieval_at_k(*train, *test), knn_vote(*train, *test, classes=3, k=7)
    monkeypatch.setattr(probes, "_BLOCK_BYTES", 4 * 50 * 8)
    parts = retrieval_at_k(*train, *test), knn_vote(*train, *test, classes=3, k=7)
    assert all(torch.equal(parts[0][k], hits) for k, hits in whole[0].items())
    assert torch.equal(parts[1], whole[1])
