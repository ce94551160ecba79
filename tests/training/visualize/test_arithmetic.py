"""Similarity, spectra and the plane against definitions written out, numpy, and features whose answer is known."""

import math
from itertools import permutations

import numpy as np
import pytest
import torch

from pclkd.training.visualize.arithmetic import linear_cka, principal_plane, spectrum_of


def features(seed: int, videos: int, channels: int) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).normal(size=(videos, channels)))


def rotation(seed: int, channels: int) -> torch.Tensor:
    return torch.linalg.qr(features(seed, channels, channels)).Q


def hsic_by_quadruples(first: np.ndarray, second: np.ndarray) -> float:
    """The U-statistic that defines the unbiased estimate: a mean over all quadruples of different videos."""
    k, l = first @ first.T, second @ second.T  # noqa: E741
    terms = [k[i, j] * (l[i, j] + l[q, r] - 2 * l[i, q]) for i, j, q, r in permutations(range(len(k)), 4)]
    return float(np.mean(terms))


@pytest.mark.parametrize("seed", [0, 1])
def test_similarity_is_the_mean_over_all_quadruples(seed: int) -> None:
    one, noise = features(seed, 7, 3), features(seed + 10, 7, 5)
    other = torch.cat([one @ features(seed + 20, 3, 2), 0.3 * noise], dim=1)
    a, b = one.numpy(), other.numpy()
    wanted = hsic_by_quadruples(a, b) / math.sqrt(hsic_by_quadruples(a, a) * hsic_by_quadruples(b, b))
    assert linear_cka(one, other) == pytest.approx(wanted, abs=1e-9)
    assert linear_cka(one.float() + 100, other.float()) == pytest.approx(wanted, abs=1e-3)  # float32, off centre


def test_similarity_knows_neither_rotation_nor_scale() -> None:
    one = features(2, 12, 4)
    assert linear_cka(one, 3 * one @ rotation(3, 4) + 5) == pytest.approx(1)
    assert linear_cka(one, torch.cat([one, one], dim=1)) == pytest.approx(1)


def test_unrelated_layers_with_more_channels_than_videos_are_not_called_alike() -> None:
    one, other = features(4, 40, 400), features(5, 40, 400)
    grams = [(x - x.mean(0)) @ (x - x.mean(0)).T for x in (one, other)]
    plain = (grams[0] * grams[1]).sum() / (grams[0].norm() * grams[1].norm())
    assert plain > 0.85
    assert abs(linear_cka(one, other)) < 0.1


def test_a_layer_that_says_the_same_of_all_videos_is_like_nothing() -> None:
    assert math.isnan(linear_cka(torch.ones(6, 3), features(0, 6, 3)))


@pytest.mark.parametrize(("videos", "channels"), [(30, 6), (6, 30)])
def test_shares_are_the_eigenvalues_of_the_covariance(videos: int, channels: int) -> None:
    given = features(6, videos, channels) * torch.arange(1, channels + 1)
    wanted = np.sort(np.linalg.eigvalsh(np.cov(given.numpy().T)))[::-1][: min(channels, videos - 1)]
    found = spectrum_of(given)
    assert found.shares.numpy() == pytest.approx(wanted / wanted.sum(), abs=1e-9)
    assert found.dimensions == channels
    cosines = [torch.cosine_similarity(a, b, dim=0) for i, a in enumerate(given) for b in given[:i]]
    assert found.cosine == pytest.approx(float(np.mean(cosines)))
    cumulated = np.cumsum(wanted / wanted.sum())
    assert found.components_for(0.9) == 1 + next(i for i, share in enumerate(cumulated) if share >= 0.9)


@pytest.mark.parametrize("rank", [1, 3, 5])
def test_directions_of_equal_variance_are_counted(rank: int) -> None:
    corners = torch.cat([torch.eye(rank), -torch.eye(rank)]).double()
    found = spectrum_of(corners @ rotation(7, 8)[:rank] + 2)
    assert found.effective_rank == pytest.approx(rank)
    assert found.components_for(1.0) == rank


def test_a_collapse_has_no_direction() -> None:
    found = spectrum_of(torch.full((9, 4), 0.5))
    assert (len(found.shares), found.effective_rank, found.components_for(0.9)) == (0, 0, 0)
    assert found.cosine == pytest.approx(1)


def test_the_plane_shows_the_two_widest_directions() -> None:
    flat = features(8, 20, 2) * torch.tensor([5.0, 1.0]) - 3
    plane = principal_plane(flat @ rotation(9, 6)[:2])
    assert sum(plane.shares) == pytest.approx(1) and plane.shares[0] > plane.shares[1] > 0
    assert torch.allclose(torch.pdist(plane.points), torch.pdist(flat))  # nothing is bent
    values = np.linalg.eigvalsh(np.cov(flat.numpy().T))[::-1]
    assert plane.points.var(0).numpy() == pytest.approx(values)


def test_the_plane_does_not_turn_over_with_the_signs_of_the_solver() -> None:
    given = features(10, 15, 4) * torch.tensor([4.0, 3.0, 1.0, 1.0])
    plane = principal_plane(given)
    assert torch.allclose(principal_plane(given.flip(0)).points, plane.points.flip(0))
    weights = (given - given.mean(0)).T @ plane.points
    assert (weights.gather(0, weights.abs().argmax(0, keepdim=True)) > 0).all()


def test_features_of_one_channel_lie_on_a_line() -> None:
    plane = principal_plane(torch.tensor([[1.0], [2.0], [4.0]]))
    assert plane.shares == pytest.approx((1, 0)) and plane.points[:, 1].eq(0).all()
